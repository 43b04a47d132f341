"""releases.json: what a repository's versions are, and the release that is under way.

It stands beside the models, where Triton ignores it. For each task:

    versions    facts of each version: when and by whom it was published, mAP, data fingerprint, ...
    highest     the highest number ever given, so that none is given twice
    lived       the versions that were live, in order; the last one is, rollback goes back
    unfinished  a release that is under way: how to undo or finish it, if its publisher was killed

Versions that somebody copied in by hand are not in it; what is known of those stands in the
network's own metadata.
"""

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import onnx

from client.versions import wanted_versions
from serving.errors import DamagedFileError, MissingFileError, PublishError
from serving.repository import State, Task, models, read_config, read_task, versions
from serving.store.base import Store, user_and_host

FILE = "releases.json"
FORMAT = 1
FACTS = ("mAP@0.5", "mAP@[.5:.95]")


@dataclass
class Unfinished:
    """A release that has begun and not ended.

    Attributes:
        before: what was served.
        after: what shall be.
        number: the version folder that it adds, None if it adds none.
        sha256: of that version's file.
        files: configurations as they were, by path; None for one that was not there.
        committed: the new state is served; only the rest has to be tidied.
    """

    before: State
    after: State
    number: int | None
    sha256: str
    files: dict[str, str | None]
    committed: bool = False


@dataclass
class Record:
    """What is known of one task's releases."""

    versions: dict[int, dict[str, Any]] = field(default_factory=dict)
    highest: int = 0
    lived: list[int] = field(default_factory=list)
    unfinished: Unfinished | None = None

    def becomes_live(self, version: int, back: bool = False) -> None:
        """Note that a version is live now.

        Args:
            version: its number.
            back: whether this is a way back: what was live after the version is forgotten, so that
                going back again goes further.
        """
        if not back:
            if self.lived[-1:] != [version]:
                self.lived.append(version)
            return
        del self.lived[-1:]
        while version in self.lived and self.lived[-1] != version:
            del self.lived[-1]
        if version not in self.lived:
            self.lived.append(version)


def read(store: Store, task: str) -> Record:
    """A task's record, an empty one where there is none.

    Raises:
        PublishError: the file is not one of this project's.
    """
    entry = read_all(store).get(task)
    if entry is None:
        return Record()
    try:
        unfinished = entry["unfinished"]
        return Record(
            {int(number): facts for number, facts in entry["versions"].items()},
            int(entry["highest"]),
            [int(version) for version in entry["lived"]],
            Unfinished(
                State(**unfinished.pop("before")), State(**unfinished.pop("after")), **unfinished
            )
            if unfinished
            else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PublishError(
            f"{store.address}/{FILE} is damaged ({error!r}): restore it, or remove it to lose the "
            "history of the releases and keep the versions"
        ) from None


def write(store: Store, task: str, record: Record) -> None:
    """Put a task's record in the place of what was there; an empty one leaves no trace."""
    tasks = read_all(store) | {task: asdict(record)}
    if record == Record():
        del tasks[task]
    if tasks:
        text = json.dumps({"format": FORMAT, "tasks": tasks}, indent=2) + "\n"
        store.write(FILE, text.encode())
    elif FILE in store.files():
        store.remove(FILE)


def read_all(store: Store) -> dict[str, Any]:
    """The records of all tasks, as they are written."""
    try:
        document = json.loads(store.read(FILE))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, expected {FORMAT}")
        return dict(document["tasks"])
    except MissingFileError:
        return {}
    except (KeyError, TypeError, ValueError) as error:
        raise PublishError(
            f"{store.address}/{FILE} cannot be read ({error}): restore it, or remove it to lose "
            "the history of the releases and keep the versions"
        ) from None


def describe(network: bytes) -> dict[str, Any]:
    """The facts of a version: its checksum, and what training wrote into the network's metadata."""
    known = metadata(network)
    try:
        metrics = json.loads(known.get("metrics", ""))
    except ValueError:
        metrics = None
    return {
        "sha256": hashlib.sha256(network).hexdigest(),
        "bytes": len(network),
        **{key: metrics[key] for key in FACTS if isinstance(metrics, dict) and key in metrics},
        **{
            key: known[key]
            for key in ("data_fingerprint", "git_commit", "exported")
            if key in known
        },
    }


def read_network(store: Store, task: Task, version: int, record: Record) -> bytes:
    """A version's file, which must be the published one. Of one copied in by hand nothing is known.

    Raises:
        DamagedFileError: it is another.
        MissingFileError: there is none.
    """
    path = task.network_file(version)
    network = store.read(path)
    found = hashlib.sha256(network).hexdigest()
    if (expected := record.versions.get(version, {}).get("sha256", found)) != found:
        raise DamagedFileError(
            f"{store.address}/{path} is not the file that was published: expected sha256 "
            f"{expected} ({FILE}), found {found}: put the published file back, or go to another "
            f"version: python -m serving rollback --repository {shlex.quote(store.address)} "
            f"--model {task.ensemble} VERSION"
        )
    return network


def verify(store: Store) -> None:
    """Every version that a server over the repository serves is the published one.

    Raises:
        DamagedFileError: one is not.
        ServingError: the repository or its record cannot be read.
    """
    present = set(models(store))
    for ensemble in read_all(store):
        if ensemble not in present:  # somebody removed it
            continue
        task, record = read_task(store, ensemble), read(store, ensemble)
        there = versions(store, task)
        served = wanted_versions(read_config(store, task.network), there)
        for version in sorted(served.intersection(there, record.versions)):
            read_network(store, task, version, record)


def metadata(network: bytes) -> dict[str, str]:
    """What stands in a network's file; nothing in one that cannot be read."""
    try:
        model = onnx.load_model_from_string(network)
    except Exception:  # a file that somebody put there; protobuf raises types of its own
        return {}
    return {entry.key: entry.value for entry in model.metadata_props}


def trained_on(network: bytes) -> set[str]:
    """The photos that a network says it was trained on: the first digits of each file's sha256."""
    try:
        return set(json.loads(metadata(network).get("trained_on", ""))["photos"])
    except (ValueError, KeyError, TypeError):
        return set()


def stamp() -> dict[str, str]:
    """Who publishes, and when (UTC)."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"published": now, "by": user_and_host()}
