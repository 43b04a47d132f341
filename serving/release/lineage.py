"""`serving lineage`: from a detection to the photos behind it, and back.

    a time      what was live, and the canary, when a client noted an answer
    a version   its artifact, the run that trained it, the data, who released it
    a file or folder: an artifact, a run, a photo; or the first digits of a sha256 or a fingerprint

What it prints stands in releases.json and in each network's metadata, so it needs neither a server
nor the folders that training left.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tyro

from client.detect.files import find_images
from serving.errors import MissingFileError, PublishError
from serving.history import Record, read_metadata, read_record
from serving.release.evaluation import PHOTO_DIGITS
from serving.release.trial import NO_PATH
from serving.repository import DEFAULT_MODEL, Repository, State, open_repository
from serving.store.address import open_store

DIGITS = re.compile(r"[0-9a-f]{6,64}")
Test = Callable[["Ancestry"], bool]
ELSEWHERE = ("output", "records")  # settings of a run that do not travel


@dataclass(frozen=True)
class LineageSettings:
    """Which version is behind an answer, an artifact, a run or a photo, and what is behind it."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")]
    """A version's number; a time such as 2026-11-20T20:15:00+01:00; the file of a photo, the folder
    of an artifact or of a run; or the first six or more digits of a sha256 or a fingerprint."""
    repository: str = "model_repository"
    """Model repository: a folder, or an address such as s3://bucket/models."""
    model: str = DEFAULT_MODEL
    """The task's ensemble, the model that takes photos."""
    photos: Annotated[Path | None, NO_PATH] = None
    """Folder in which the photos that it was trained on are looked for."""
    json: bool = False
    """Print one JSON document instead of words."""


@dataclass(frozen=True)
class Ancestry:
    """A version, and what is behind it.

    Attributes:
        version: its number.
        sha256: of its model.onnx.
        metadata: what training wrote into the network, by name; text.
        facts: what releases.json has of it.
        served: the changes of what is served that it had a part in, the earliest first.
    """

    version: int
    sha256: str
    metadata: dict[str, str]
    facts: dict[str, Any]
    served: list[dict[str, Any]]

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the run that are not the preset's own."""
        told = json.loads(self.metadata.get("settings", "{}"))
        return {name: value for name, value in told.items() if value is not None}

    @property
    def trained_on(self) -> list[str]:
        """The first digits of each photo's sha256."""
        return list(json.loads(self.metadata.get("trained_on", "{}")).get("photos", []))


def lineage(settings: LineageSettings) -> None:
    """Print what is behind a version, or which versions are behind something.

    Raises:
        ServingError: no version is, or the repository does not answer.
    """
    repository = open_repository(open_store(settings.repository), settings.model)
    record = read_record(repository.store, settings.model)
    versions = [_read_ancestry(repository, record, each) for each in repository.versions()]
    found = find_versions(settings.what, versions, record, repository.state())
    names = _name_photos(settings.photos) if settings.photos else {}
    if settings.json:
        print(json.dumps([_to_dict(each, names) for each in found], indent=2))
        return
    for each in found:
        print(f"version {each.version} of {settings.model} in {settings.repository}")
        print("\n".join(f"  {line}" for line in _describe(each, names)))


def find_versions(
    what: str, versions: list[Ancestry], record: Record, state: State
) -> list[Ancestry]:
    """The versions that something names or has gone into.

    Args:
        what: as in `LineageSettings`.
        versions: all that are there.
        record: of the task's releases.
        state: what is served now.

    Raises:
        PublishError: none.
    """
    test = _parse(what, record, state)
    if found := [each for each in versions if test(each)]:
        return found
    raise PublishError(
        f"no version has to do with {what}: there are {', '.join(str(v.version) for v in versions)}"
    )


def _parse(what: str, record: Record, state: State) -> Test:
    """A function that says whether a version is meant."""
    path = Path(what)
    if path.is_dir():
        return _parse_folder(path)
    if path.is_file():
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return lambda each: each.sha256 == sha256 or sha256[:PHOTO_DIGITS] in each.trained_on
    if re.fullmatch(r"\d{1,5}", what):
        return lambda each: each.version == int(what)
    if DIGITS.fullmatch(what):
        return lambda each: any(name.startswith(what) for name in _list_names(each))
    served = _find_served(_parse_time(what), record, state).versions
    return lambda each: each.version in served


def _parse_folder(folder: Path) -> Test:
    if (folder / "model.onnx").is_file():
        return _parse(str(folder / "model.onnx"), Record(), State(0))
    try:
        run = json.loads((folder / "run.json").read_text())
        settings = {n: value for n, value in run["settings"].items() if n not in ELSEWHERE}
        return lambda each: (
            each.metadata.get("data_fingerprint") == run["fingerprint"]
            and json.loads(each.metadata.get("settings", "{}")) == settings
        )
    except (OSError, ValueError, LookupError):
        raise PublishError(
            f"{folder} is neither an artifact (model.onnx) nor a run (run.json)"
        ) from None


def _list_names(version: Ancestry) -> Iterator[str]:
    yield from (version.sha256, version.metadata.get("data_fingerprint", ""), *version.trained_on)


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise PublishError(
            f"{text} is no version, no time such as 2026-11-20T20:15:00+01:00, no file or folder, "
            "and not the first six digits or more of a sha256"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _find_served(time: datetime, record: Record, state: State) -> State:
    """What was served then."""
    for change in record.log:
        if datetime.fromisoformat(change["at"]) > time:
            if change["before"] is None:
                raise PublishError(f"nothing was served at {time.isoformat()} (UTC)")
            return State(**change["before"])
    return state


def _read_ancestry(repository: Repository, record: Record, version: int) -> Ancestry:
    try:
        network = repository.read_network(version)
    except MissingFileError:
        network = b""
    served = [change for change in record.log if version in _list_versions(change)]
    sha256 = hashlib.sha256(network).hexdigest()
    return Ancestry(
        version, sha256, read_metadata(network), record.versions.get(version, {}), served
    )


def _list_versions(change: dict[str, Any]) -> frozenset[int]:
    """Those that were or are served."""
    states = [State(**change[each]) for each in ("before", "after") if change[each]]
    return frozenset().union(*(state.versions for state in states))


def _name_photos(folder: Path) -> dict[str, str]:
    """Names of the photos in a folder, by the first digits of their sha256."""
    if not folder.is_dir():
        raise PublishError(f"--photos {folder}: no such folder")
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()[:PHOTO_DIGITS]: str(path)
        for path in find_images(folder)
    }


def _describe(version: Ancestry, names: dict[str, str]) -> list[str]:
    """Lines for people."""
    told, facts, photos = version.metadata, version.facts, version.trained_on
    who = f"{facts['published']} by {facts['by']}" if "published" in facts else "copied in by hand"
    settings = ", ".join(f"{name} {value}" for name, value in version.settings.items())
    return [
        f"artifact   sha256 {version.sha256}",
        f"           {told.get('precision', '-')}, exported {told.get('exported', '-')}",
        f"published  {who}",
        *(f"served     {each['at']}  {State(**each['after'])}" for each in version.served),
        f"run        step {told.get('step', '-')}, code {told.get('git_commit', '-')}",
        f"           {settings or 'no settings'}",
        f"data       fingerprint {told.get('data_fingerprint', '-')}",
        f"           trained on {len(photos)} photos",
        *(f"           {names[photo]}" for photo in photos if photo in names),
    ]


def _to_dict(version: Ancestry, names: dict[str, str]) -> dict[str, Any]:
    """The same, and the digits of all photos."""
    facts = {name: value for name, value in version.facts.items() if name != "reference"}
    return {
        "version": version.version,
        "sha256": version.sha256,
        "facts": facts,
        "served": version.served,
        "run": {"settings": version.settings}
        | {name: version.metadata.get(name) for name in ("step", "git_commit", "exported")},
        "data_fingerprint": version.metadata.get("data_fingerprint"),
        "photos": {photo: names.get(photo) for photo in version.trained_on},
    }
