"""releases.json: what a repository's versions are, and the release that is under way.

It stands beside the models, where Triton ignores it. For each task:

    versions    facts of each version: when and by whom it was published, mAP, data fingerprint, the
                reference that `drift` compares live with, ...
    highest     the highest number ever given, so that none is given twice
    lived       the versions that were live, in order; the last one is, rollback goes back
    since       when what is served last changed, a canary's coming and going as well (UTC)
    log         each such change: when, by whom, from what to what, and why if a judge decided; and
                which fusions were made of the task's versions
    unfinished  a release that is under way: how to undo or finish it, if its publisher was killed

Versions that somebody copied in by hand are not in it; what is known of those stands in the
network's own metadata.
"""

import hashlib
import json
import re
import shlex
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import onnx

from client.versions import wanted_versions
from serving.errors import DamagedFileError, MissingFileError, PublishError
from serving.repository import Repository, State, list_models, open_repository
from serving.store.base import Store, user_and_host

FILE = "releases.json"
FORMAT = 1
FACTS = ("mAP@0.5", "mAP@[.5:.95]")
LOGGED = 1000  # changes at most, the latest


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
    since: str = ""  # empty in a file of before
    log: list[dict[str, Any]] = field(default_factory=list)

    def note_change(self, before: State | None, after: State, why: str = "") -> None:
        """Note that something else is served now.

        Args:
            before: what was; None of a task that is new.
            after: what is.
            why: what a judge measured; empty where a person decided.
        """
        self._append(before, after, why)
        self.since = self.log[-1]["at"]

    def note_fusion(self, state: State, fusion: str) -> None:
        """Note that a fusion was made of versions of the task, which serves what it served."""
        self._append(state, state, fusion)

    def _append(self, before: State | None, after: State, why: str) -> None:
        states = {"before": before and asdict(before), "after": asdict(after)}
        self.log.append({"at": tell_time(), "by": user_and_host(), **states, "why": why})
        del self.log[:-LOGGED]

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


def read_record(store: Store, ensemble: str) -> Record:
    """The record of an ensemble's task, an empty one where there is none.

    Raises:
        PublishError: the file is not one of this project's.
    """
    entry = read_records(store).get(ensemble)
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
            str(entry.get("since", "")),
            list(entry.get("log", [])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PublishError(
            f"{store.address}/{FILE} is damaged ({error!r}): restore it, or remove it to lose the "
            "history of the releases and keep the versions"
        ) from None


def write_record(store: Store, ensemble: str, record: Record) -> None:
    """Put the record of an ensemble's task in the place of what was there.

    An empty one leaves no trace.
    """
    tasks = read_records(store) | {ensemble: asdict(record)}
    if record == Record():
        del tasks[ensemble]
    if tasks:
        text = json.dumps({"format": FORMAT, "tasks": tasks}, indent=2) + "\n"
        text = re.sub(r"\[\n[\d\s.,e+-]+\]", lambda match: "".join(match[0].split()), text)
        store.write(FILE, text.encode())  # a list of numbers is one line
    elif FILE in store.files():
        store.remove(FILE)


def read_records(store: Store) -> dict[str, Any]:
    """The records of all tasks by their ensembles, as they are written.

    Raises:
        PublishError: the file is not one of this project's.
    """
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


def describe_network(network: bytes, reference: dict[str, Any] | None = None) -> dict[str, Any]:
    """The facts of a version: its checksum, and what training wrote into the network's metadata.

    Args:
        network: an ONNX file.
        reference: what its artifact's card says of a validation set.
    """
    known = read_metadata(network)
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
        **({"reference": reference} if reference else {}),
    }


def read_published(repository: Repository, version: int, record: Record) -> bytes:
    """A version's weights, whose sha256 must be the one that was recorded.

    Of a version that was copied in by hand nothing is recorded: its weights are not checked.

    Raises:
        DamagedFileError: the file is another.
        MissingFileError: there are none.
    """
    task, address = repository.task, repository.store.address
    network = repository.read_network(version)
    found = hashlib.sha256(network).hexdigest()
    if (expected := record.versions.get(version, {}).get("sha256", found)) != found:
        raise DamagedFileError(
            f"{address}/{task.network_file(version)} is not the file that was published: expected "
            f"sha256 {expected} ({FILE}), found {found}: put the published file back, or go to "
            f"another version: python -m serving rollback --repository {shlex.quote(address)} "
            f"--model {task.ensemble} VERSION"
        )
    return network


def check_served_networks(store: Store) -> None:
    """Every version that a server over the repository serves is the published one.

    Raises:
        DamagedFileError: one is not.
        ServingError: the repository or its record cannot be read.
    """
    present = set(list_models(store))
    for ensemble in read_records(store):
        if ensemble not in present:  # somebody removed it
            continue
        repository, record = open_repository(store, ensemble), read_record(store, ensemble)
        versions = repository.versions()
        served = wanted_versions(repository.config(repository.task.network), versions)
        for version in sorted(served.intersection(versions, record.versions)):
            read_published(repository, version, record)


def read_trained_on(network: bytes) -> set[str]:
    """The photos that a network says it was trained on: the first digits of each file's sha256."""
    try:
        return set(json.loads(read_metadata(network).get("trained_on", ""))["photos"])
    except (ValueError, KeyError, TypeError):
        return set()


def has_calibrated_scores(network: bytes) -> bool:
    """Whether training put a temperature and a shift into a network."""
    try:
        return bool(json.loads(read_metadata(network).get("reliability", ""))["is_applied"])
    except (ValueError, KeyError, TypeError):
        return False


def sign_release() -> dict[str, str]:
    """The facts of who publishes, and when (UTC)."""
    return {"published": tell_time(), "by": user_and_host()}


def tell_time() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_metadata(network: bytes) -> dict[str, str]:
    """What stands in a network's file; nothing in one that cannot be read."""
    try:
        model = onnx.load_model_from_string(network)
    except Exception:  # a file that somebody put there; protobuf raises types of its own
        return {}
    return {entry.key: entry.value for entry in model.metadata_props}
