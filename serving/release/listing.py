"""`serving releases`: the versions of a repository, and what is known of each."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tritonclient.utils import InferenceServerException

from serving.control import Control
from serving.errors import MissingFileError, PublishError
from serving.history import FACTS, describe_network, read_record
from serving.release.session import ReleaseSettings, connect
from serving.repository import Repository, list_tasks, open_repository
from serving.store.address import open_store

COLUMNS = (
    "version",
    "state",
    *FACTS,
    "measured on",
    "data",
    "published (UTC)",
    "by",
    "held by",
)


@dataclass(frozen=True, kw_only=True)
class ReleasesSettings(ReleaseSettings):
    """List the versions of a model repository."""

    model: str = ""
    """A task's ensemble; empty: every task of the repository."""
    json: bool = False
    """Print one JSON document instead of tables."""


@dataclass(frozen=True)
class Release:
    """One version.

    Attributes:
        version: its number.
        state: live, canary and its share, or empty.
        served: whether the running server has it loaded; None where none was asked.
        held_by: the ensembles that use it.
        facts: what is known of it.
    """

    version: int
    state: str
    served: bool | None
    held_by: list[str]
    facts: dict[str, Any]


def releases(settings: ReleasesSettings) -> None:
    """Print what `_list_releases` finds, for each task.

    Raises:
        ServingError: the repository or the server does not answer.
    """
    store = open_store(settings.repository)
    names = [settings.model] if settings.model else list_tasks(store)
    if not names:
        raise PublishError(
            f"{settings.repository} has no ensemble that takes photos: is it a model repository?"
        )
    with connect(settings) as control:
        try:
            found = {name: _list_releases(open_repository(store, name), control) for name in names}
        except InferenceServerException as error:
            raise PublishError(
                f"{settings.url} does not tell what it serves: {error.message()}. Start a server "
                "with `python -m serving up`, and give the key that it prints with --admin-key"
            ) from None
    if settings.json:
        document = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        print(json.dumps(document, indent=2))
        return
    for name, rows in found.items():
        print(f"{name} in {settings.repository}\n{_format_table(rows)}\n")


def _list_releases(repository: Repository, control: Control | None) -> list[Release]:
    """The task's versions, the newest first."""
    task, state = repository.task, repository.state()
    record = read_record(repository.store, task.ensemble)
    users = repository.users(state.live)
    loaded = control.versions(task.network, "READY") if control else None
    found = []
    for version in reversed(repository.versions()):
        facts = record.versions.get(version) or _describe_copied(repository, version)
        words = "live" if version == state.live else ""
        if version == state.canary:
            words = f"canary {state.share:.0%}"
        served = None if loaded is None else str(version) in loaded
        found.append(Release(version, words, served, users.get(version, []), facts))
    return found


def _describe_copied(repository: Repository, version: int) -> dict[str, Any]:
    """The facts of a version that was not published, such as one copied by hand."""
    path = repository.task.network_file(version)
    try:
        modified = repository.store.modified(path).isoformat(timespec="seconds")
        facts = describe_network(repository.read_network(version))
    except MissingFileError:
        return {"by": "no model.onnx"}
    return facts | {"published": modified, "by": "copied"}


def _format_table(rows: list[Release]) -> str:
    """Columns of the same width each."""
    head = [*COLUMNS, "on the server"] if any(r.served is not None for r in rows) else [*COLUMNS]
    cells = [head] + [_format_cells(row)[: len(head)] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _format_cells(row: Release) -> list[str]:
    """One line of the table."""
    facts = row.facts
    accuracy = [facts.get(key) for key in FACTS]
    return [
        str(row.version),
        row.state,
        *(f"{value:.3f}" if isinstance(value, float | int) else "-" for value in accuracy),
        "-" if accuracy == [None, None] else _name_evaluation(facts),
        facts.get("data_fingerprint", "-")[:8],
        facts.get("published", "-")[:19].replace("T", " "),
        facts.get("by", "-"),
        ", ".join(row.held_by),
        "loaded" if row.served else "",
    ]


def _name_evaluation(facts: dict[str, Any]) -> str:
    """Where a version's mAP comes from: `publish --evaluation`, or training and its own set."""
    evaluation = facts.get("evaluation")
    return f"{evaluation['set']}, {evaluation['photos']} photos" if evaluation else "training"
