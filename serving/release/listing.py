"""`serving releases`: the versions of a repository, what is known of each, and who serves them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tritonclient.utils import InferenceServerException

from serving.control import Control
from serving.errors import MissingFileError, PublishError
from serving.history import FACTS, describe_network, read_record
from serving.release.servers import read_state
from serving.release.session import ReleaseSettings, connect
from serving.repository import Repository, State, Task, list_tasks, open_repository
from serving.store.address import open_store
from serving.store.base import Store

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
    log: bool = False
    """Instead: every change of what is served, when, by whom, and what decided."""
    json: bool = False
    """Print one JSON document instead of tables."""


@dataclass(frozen=True)
class Release:
    """One version.

    Attributes:
        version: its number.
        state: live, canary and its share, or empty.
        served: whether all servers that answered have it loaded; None where none did.
        servers: what it is on each server: live, canary and its share, loaded, or empty.
        held_by: the ensembles that use it.
        facts: what is known of it.
    """

    version: int
    state: str
    served: bool | None
    servers: dict[str, str]
    held_by: list[str]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Served:
    """What a server serves of a task, and the versions that it has loaded."""

    state: State | None
    loaded: frozenset[int]

    def describe(self, version: int) -> str:
        """What a version is there: live, canary and its share, loaded, or empty."""
        words = _describe_version(version, self.state) if self.state else ""
        return words or ("loaded" if version in self.loaded else "")


def releases(settings: ReleasesSettings) -> int:
    """Print what `_list_releases` finds, for each task, and which servers serve something else.

    Returns:
        1 where one does, or does not answer; else 0.

    Raises:
        ServingError: the repository does not answer, or no server does.
    """
    store = open_store(settings.repository)
    names = [settings.model] if settings.model else list_tasks(store)
    if not names:
        raise PublishError(
            f"{settings.repository} has no ensemble that takes photos: is it a model repository?"
        )
    tasks = [open_repository(store, name) for name in names]
    if settings.log:
        _print_log(store, names, settings.json)
        return 0
    with connect(settings) as servers:
        skew = [f"{url} does not answer" for url in servers.leave_out_silent()]
        try:
            served = [servers.each(partial(_read_served, task=each.task)) for each in tasks]
        except InferenceServerException as error:
            raise PublishError(
                f"{settings.url} does not tell what it serves: {error.message()}. Start a server "
                "with `python -m serving up`, and give the key that it prints with --admin-key"
            ) from None
    pairs = list(zip(tasks, served, strict=True))
    found = {each.task.ensemble: _list_releases(each, there) for each, there in pairs}
    if settings.json:
        document = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        print(json.dumps(document, indent=2))
    else:
        for name, rows in found.items():
            print(f"{name} in {settings.repository}\n{_format_table(rows)}\n")
    skew += [line for each, there in pairs for line in _describe_skew(each, there)]
    for line in skew:
        print(f"skew: {line}", file=sys.stderr)
    return int(bool(skew))


def _print_log(store: Store, ensembles: Sequence[str], as_json: bool) -> None:
    """What was done in each task, the earliest first."""
    logs = {name: read_record(store, name).log for name in ensembles}
    if as_json:
        print(json.dumps(logs, indent=2))
        return
    for name, log in logs.items():
        print(f"{name} in {store.address}")
        for change in log:
            when, why = change["at"][:19].replace("T", " "), change["why"]
            words = f"{when}  {change['by']}  {State(**change['after'])}"
            print(f"{words}  {why}" if why else words)


def _read_served(control: Control, task: Task) -> Served:
    """What a server serves of a task."""
    loaded = control.versions(task.network, "READY")
    return Served(read_state(control, task), frozenset(map(int, loaded)))


def _describe_skew(repository: Repository, served: dict[str, Served]) -> list[str]:
    """A line for each server that serves something else than the repository says."""
    says, name = repository.state(), repository.task.ensemble
    return [
        f"{url} serves {there.state or 'nothing'} of {name}, {repository.store.address} says {says}"
        for url, there in served.items()
        if there.state != says
    ]


def _list_releases(repository: Repository, served: dict[str, Served]) -> list[Release]:
    """The task's versions, the newest first."""
    task, state = repository.task, repository.state()
    record = read_record(repository.store, task.ensemble)
    users = repository.users(state.live)
    found = []
    for version in reversed(repository.versions()):
        facts = record.versions.get(version) or _describe_copied(repository, version)
        words, holders = _describe_version(version, state), users.get(version, [])
        servers = {url: there.describe(version) for url, there in served.items()}
        loaded = all(servers.values()) if servers else None
        found.append(Release(version, words, loaded, servers, holders, facts))
    return found


def _describe_version(version: int, state: State) -> str:
    """What a version is: live, canary and its share, or empty."""
    if version == state.canary:
        return f"canary {state.share:.0%}"
    return "live" if version == state.live else ""


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
    urls = list(rows[0].servers)
    head = [*COLUMNS, *(["on the server"] if len(urls) == 1 else urls)]
    cells = [head] + [_format_cells(row) for row in rows]
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
        *(["loaded" if row.served else ""] if len(row.servers) == 1 else row.servers.values()),
    ]


def _name_evaluation(facts: dict[str, Any]) -> str:
    """Where a version's mAP comes from: `publish --evaluation`, or training and its own set."""
    evaluation = facts.get("evaluation")
    return f"{evaluation['set']}, {evaluation['photos']} photos" if evaluation else "training"
