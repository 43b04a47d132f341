"""`training runs`: which runs there are, and how good each is."""

import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tyro

from training import checkpoints, run_folder
from training.errors import TrainingError

FIGURES = "mAP@0.5", "mAP@[.5:.95]"


@dataclasses.dataclass(frozen=True)
class RunsSettings:
    """List the runs below folders. Exit code 1: one of them is damaged, and named."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("runs"),)
    """Run folders, or folders that hold some, however deep."""
    json: bool = False
    """A JSON list instead of a table."""


def list_runs(settings: RunsSettings) -> int:
    """Print the runs below the folders, and name the damaged ones.

    Raises:
        TrainingError: there is no such folder, or no run in any.
    """
    runs = [run for folder in settings.folders for run in _find_runs(folder)]
    if not runs:
        named = ", ".join(map(str, settings.folders))
        raise TrainingError(f"no run in {named}: expected folders that `training train` wrote")
    rows = [_read_row(run) for run in runs]
    damaged = [row for row in rows if "error" in row]
    if settings.json:
        print(json.dumps(rows, indent=2))
    else:
        print(_format_table([row for row in rows if "error" not in row]))
        for row in damaged:
            print(f"damaged: {row['name']}: {row['error']}", file=sys.stderr)
    return 1 if damaged else 0


def _find_runs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TrainingError(f"{folder}: no such folder, expected one with runs in it")
    found = sorted(path.parent for path in folder.rglob("run.json"))
    return [run for run in found if run.name != "best" or run.parent not in found]


def _read_row(run: Path) -> dict[str, Any]:
    try:
        return {"name": str(run)} | _describe(run)
    except TrainingError as error:
        return {"name": str(run), "error": str(error)}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return {"name": str(run), "error": f"not as `training train` writes it ({error!r})"}


def _describe(run: Path) -> dict[str, Any]:
    """What a run is; its figures are of the newest checkpoint, or none."""
    description = run_folder.read_description(run)
    newest = checkpoints.newest_whole(run / "checkpoints")
    metrics = (run_folder.read_metrics(run) if newest else None) or {}
    changed = Path(f"{newest}.index") if newest else run / "run.json"
    return {
        "preset": description["preset"]["name"],
        "photos": len(description["trained_on"]["photos"]) if "trained_on" in description else None,
        "steps": checkpoints.step_of(newest) if newest else 0,
        **{key: float(x) for key, x in metrics.items() if key.startswith(FIGURES)},
        "when": _minute_of(changed),
    }


def _minute_of(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="minutes")


def _format_table(rows: list[dict[str, Any]]) -> str:
    header = ("name", "preset", "photos", "steps", *FIGURES, "when")
    lines = [header, *(tuple(_cell(row, key) for key in header) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if any(cell.endswith("*") for line in lines for cell in line):
        table.append("*: on photos that it was trained on, which tells nothing of others")
    return "\n".join(table)


def _cell(row: dict[str, Any], key: str) -> str:
    if key not in FIGURES:
        return "?" if row[key] is None else str(row[key])
    found = find_figure(row, key)
    return f"{found[1]:.3f}{'*' if found[0] else ''}" if found else "-"


def find_figure(metrics: dict[str, Any], key: str) -> tuple[str, float] | None:
    """One of FIGURES, and before it what its name has beside: where it is no mAP, why."""
    for name, value in metrics.items():
        if name.startswith(key):
            return name.removeprefix(key), value
    return None
