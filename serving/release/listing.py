"""`serving releases`: the versions of a repository, and what is known of each."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tritonclient.utils import InferenceServerException

from serving import history
from serving.control import Control
from serving.errors import MissingFileError, PublishError
from serving.release.session import ReleaseSettings, connect
from serving.repository import Task, holders, read_state, read_task, tasks, versions
from serving.store.address import open_store
from serving.store.base import Store

COLUMNS = (
    "version",
    "state",
    *history.FACTS,
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
    """Print what `list_releases` finds, for each task."""
    store = open_store(settings.repository)
    names = [settings.model] if settings.model else tasks(store)
    if not names:
        raise PublishError(
            f"{settings.repository} has no ensemble that takes photos: is it a model repository?"
        )
    with connect(settings) as control:
        try:
            found = {name: list_releases(store, read_task(store, name), control) for name in names}
        except InferenceServerException as error:
            raise PublishError(
                f"{settings.url} does not tell what it serves: {error.message()}. Start a server "
                "with `python -m serving up`, and give the key that it prints with --admin-key"
            ) from None
    if settings.json:
        print(
            json.dumps({name: [asdict(r) for r in rows] for name, rows in found.items()}, indent=2)
        )
        return
    for name, rows in found.items():
        print(f"{name} in {settings.repository}")
        print(table(rows) + "\n")


def list_releases(store: Store, task: Task, control: Control | None) -> list[Release]:
    """The task's versions, the newest first."""
    record = history.read(store, task.ensemble)
    state = read_state(store, task)
    held = holders(store, task, state.live)
    loaded = control.versions(task.network, "READY") if control else None
    found = []
    for version in reversed(versions(store, task)):
        facts = record.versions.get(version) or copied(store, task, version)
        told = "live" if version == state.live else ""
        if version == state.canary:
            told = f"canary {state.share:.0%}"
        served = None if loaded is None else str(version) in loaded
        found.append(Release(version, told, served, held.get(version, []), facts))
    return found


def copied(store: Store, task: Task, version: int) -> dict[str, Any]:
    """The facts of a version that was not published, such as one copied by hand."""
    path = task.network_file(version)
    try:
        modified = store.modified(path).isoformat(timespec="seconds")
        return history.describe(store.read(path)) | {"published": modified, "by": "copied"}
    except MissingFileError:
        return {"by": "no model.onnx"}


def table(rows: list[Release]) -> str:
    """Columns of the same width each."""
    head = [*COLUMNS, "on the server"] if any(r.served is not None for r in rows) else [*COLUMNS]
    cells = [head] + [cells_of(row)[: len(head)] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def cells_of(row: Release) -> list[str]:
    """One line of the table."""
    facts = row.facts
    accuracy = [facts.get(key) for key in history.FACTS]
    return [
        str(row.version),
        row.state,
        *(f"{value:.3f}" if isinstance(value, float | int) else "-" for value in accuracy),
        "-" if accuracy == [None, None] else measured_on(facts),
        facts.get("data_fingerprint", "-")[:8],
        facts.get("published", "-")[:19].replace("T", " "),
        facts.get("by", "-"),
        ", ".join(row.held_by),
        "loaded" if row.served else "",
    ]


def measured_on(facts: dict[str, Any]) -> str:
    """Where a version's mAP comes from: `publish --evaluation`, or training and its own set."""
    evaluation = facts.get("evaluation")
    return f"{evaluation['set']}, {evaluation['photos']} photos" if evaluation else "training"
