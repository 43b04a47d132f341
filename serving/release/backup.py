"""`serving backup` and `serving restore`: dated copies of a repository and of an inbox.

    TARGET/2026-11-27T020000Z/models/        what `serving copy` makes of the repository
    TARGET/2026-11-27T020000Z/inbox/         the files of the inbox, as they were at one moment
    TARGET/2026-11-27T020000Z/backup.json    when, by whom, how much; what has it is whole

Servers and pages go on meanwhile; releases wait.
"""

import json
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tyro

from serving.errors import MissingFileError, StoreError
from serving.release.copying import CopySettings, compare_copy, copy
from serving.store.address import open_store
from serving.store.base import Store, user_and_host

WHOLE = "backup.json"
DATED = re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z")
ANNOTATIONS = "Annotations/"  # of an inbox, docs/corrections.md
PASSES = 10


@dataclass(frozen=True)
class BackupSettings:
    """Copy a model repository, and an inbox, to a new dated place, and remove the oldest copies.

    Nobody has to stop: servers and pages notice nothing, and releases wait.
    """

    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REPOSITORY")]
    """A folder, or an address such as s3://bucket/models."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """Where all backups lie, likewise."""
    inbox: str = ""
    """Inbox of corrected photos, to be kept as well; likewise."""
    keep: int = 14
    """Backups that stay, 1 or more; older ones go once the new one is whole."""


@dataclass(frozen=True)
class RestoreSettings:
    """Bring back a repository, an inbox or both from a backup, to places that are empty."""

    backup: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BACKUP")]
    """A dated place that `serving backup` made, such as s3://backups/ssd/2026-11-27T020000Z."""
    repository: str = ""
    """Where the model repository shall lie: a folder, or an address."""
    inbox: str = ""
    """Where the inbox shall lie, likewise."""


def backup(settings: BackupSettings) -> None:
    """Copy, read the copies again, and compare. Prints what was copied.

    Raises:
        ServingError: something cannot be read or written; earlier backups are as they were.
    """
    if settings.keep < 1:
        raise StoreError(f"--keep {settings.keep}: expected 1 or more")
    place = open_store(settings.target)
    at = name_now()
    made = f"{settings.target.rstrip('/')}/{at}"
    with place.lock("backup"):
        if settings.inbox:
            files = _copy_inbox(open_store(settings.inbox), open_store(f"{made}/inbox"))
            print(f"copied {settings.inbox} to {made}/inbox: {files} files")
        copy(CopySettings(settings.repository, f"{made}/models"))
        told: dict[str, Any] = {"at": at, "by": user_and_host()}
        told |= {"repository": settings.repository}
        told |= {"inbox": settings.inbox, "files": files} if settings.inbox else {}
        place.write(f"{at}/{WHOLE}", (json.dumps(told, indent=2) + "\n").encode())
        removed = _remove_oldest(place, settings.keep)
    print(f"{made} is whole" + (f"; removed {', '.join(removed)} (--keep)" if removed else ""))


def restore(settings: RestoreSettings) -> None:
    """Copy, read the copies again, and compare. Prints what was copied.

    Raises:
        ServingError: there is no such backup, it holds no such thing, or the place is not empty.
    """
    told = _read_whole(settings.backup)
    place = settings.backup.rstrip("/")
    if settings.inbox and not told.get("inbox"):
        raise StoreError(f"{place} holds no inbox: it was made without --inbox")
    if not settings.inbox and not settings.repository:
        raise StoreError("nothing to bring back: give --repository, --inbox or both")
    if settings.repository:
        copy(CopySettings(f"{place}/models", settings.repository))
    if settings.inbox:
        files = _copy_inbox(open_store(f"{place}/inbox"), open_store(settings.inbox))
        if files != told["files"]:
            raise StoreError(f"{place}/inbox has {files} files, but {told['files']} were kept")
        print(f"copied {place}/inbox to {settings.inbox}: {files} files")


def name_now() -> str:
    """What a backup of now is called: sorted by name, backups are sorted by time."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")


def _copy_inbox(source: Store, target: Store) -> int:
    """Copy an inbox as it is at one moment. Returns how many files it has."""
    if not any(path.startswith(ANNOTATIONS) or path == "labels.txt" for path in source.files()):
        raise StoreError(
            f"{source.address} is no inbox: expected {ANNOTATIONS} and labels.txt, as "
            "`python app.py --corrections` makes them"
        )
    if target.files():
        raise StoreError(f"{target.address} is not empty: name a place that is")
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder, "inbox")
        copied.mkdir()
        count = _fetch_unchanged(source, copied)
        target.create(copied)
        compare_copy(copied, target)
    return count


def _fetch_unchanged(source: Store, folder: Path) -> int:
    """Copy files until none has come, gone or changed meanwhile: people go on correcting.

    Returns how many they are.
    """
    fetched: dict[str, str] = {}
    for _ in range(PASSES):
        there = source.files()
        if there == fetched:
            return len(fetched)
        for path in fetched.keys() - there.keys():
            (folder / path).unlink()
            del fetched[path]
        for path in (each for each, stamp in there.items() if fetched.get(each) != stamp):
            try:
                content = source.read(path)
            except MissingFileError:  # decided just now
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            fetched[path] = there[path]
    raise StoreError(
        f"{source.address} changed in each of {PASSES} attempts to read it: try again when fewer "
        "people are at work"
    )


def _remove_oldest(place: Store, keep: int) -> list[str]:
    """Remove whole backups beyond so many, and what killed ones left. Returns their dates."""
    files = place.files(hidden=True)
    dates = sorted(filter(DATED.fullmatch, {path.partition("/")[0] for path in files}))
    whole = _list_whole(files)
    gone = [date for date in dates if date not in whole[-keep:]]
    for date in gone:
        place.remove(date)
    return gone


def _list_whole(files: Iterable[str]) -> list[str]:
    """The dates of the backups that are whole, by all files there are, the oldest first."""
    pairs = (path.partition("/") for path in files)
    return sorted(date for date, _, name in pairs if name == WHOLE and DATED.fullmatch(date))


def _read_whole(address: str) -> dict[str, Any]:
    """What a backup's own file says.

    Raises:
        StoreError: it is none, or not whole; says which there are.
    """
    try:
        return dict(json.loads(open_store(address).read(WHOLE)))
    except MissingFileError:
        above, _, last = address.rstrip("/").rpartition("/")
        there = _list_whole(open_store(above if DATED.fullmatch(last) else address).files())
        known = f"; there are {', '.join(there[-5:])}" if there else ""
        raise StoreError(f"{address} is no backup that is whole{known}") from None
    except ValueError:
        raise StoreError(f"{address}/{WHOLE} is damaged: take another backup") from None
