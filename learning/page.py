"""The page of all rounds: what was learned, what decided, and where each output lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from learning.files import read_json, write_text
from learning.round import Round, list_rounds

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,  # logs may hold anything
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class StepView:
    """A step as the page shows it; `done` is None where it is not."""

    name: str
    done: dict[str, Any] | None
    log: str


def write_page(output: Path) -> Path:
    """Write OUTPUT/index.html and return it."""
    rounds = [_view_round(each) for each in reversed(list_rounds(output))]
    write_text(output / "index.html", _TEMPLATES.get_template("page.html").render(rounds=rounds))
    return output / "index.html"


def _view_round(shown: Round) -> dict[str, Any]:
    logs = sorted((shown.folder / "steps").glob("*.log"), key=lambda path: path.stat().st_ctime)
    records, report = shown.folder / "records" / "train.json", shown.run / "report" / "index.html"
    return {
        "name": shown.folder.name,
        "begun": shown.begun,
        "outcome": shown.outcome,
        "steps": [_view_step(log) for log in logs],
        "data": read_json(records) if records.exists() else None,
        "report": report.relative_to(shown.folder.parent) if report.exists() else None,
    }


def _view_step(log: Path) -> StepView:
    path = log.with_suffix(".json")
    done = read_json(path) if path.exists() else None
    return StepView(log.stem, done, log.read_text(encoding="utf-8"))
