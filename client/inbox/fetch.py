"""The command `fetch`: what counts in an inbox, as a folder here.

    FOLDER/JPEGImages/, Annotations/   as in the inbox
    FOLDER/.fetched.json               what was copied, so that the next time only the rest is

A photo is there before its annotation, and each of them is whole.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

import tyro

from client.errors import BucketError, DetectorError, InvalidParameter
from client.inbox.address import open_storage
from client.inbox.files import Folder
from client.inbox.storage import Storage

PARTS = PurePosixPath("Annotations"), PurePosixPath("JPEGImages")
FETCHED = PurePosixPath(".fetched.json")
AT_ONCE = 8  # files under way


@dataclass(frozen=True)
class Fetch:
    """Copy what is accepted in an inbox to a folder, as Pascal VOC to train with.

    The same again copies what is new or changed, and removes what is gone.
    """

    inbox: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ADDRESS")]
    """Where the inbox is, such as s3://bucket/inbox: `app.py --corrections ADDRESS`."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Made if it is not there; it holds nothing else."""

    json: bool = False
    """Print the figures as JSON."""


def run_fetch(settings: Fetch) -> int:
    """Copy, tell how much it was, and return the exit code.

    Raises:
        DetectorError: the inbox cannot be read, or the folder not be written.
        InvalidParameter: the address is malformed, there is no inbox, or the folder holds others.
    """
    try:
        figures = _fetch(open_storage(settings.inbox), Folder(settings.folder), settings.folder)
    except BucketError:
        raise
    except OSError as error:
        raise DetectorError(f"{settings.inbox} cannot be copied: {error}") from None
    told = "{annotations} photos with boxes, {copied} files copied, {removed} removed"
    print(json.dumps(figures) if settings.json else told.format(**figures))
    return 0


def _fetch(inbox: Storage, target: Storage, folder: Path) -> dict[str, int]:
    known = _read_known(target, folder)
    stamps = _list(inbox)
    if not (stamps or known or inbox.measure()):
        raise InvalidParameter(
            f"{inbox.address}: expected an inbox, as `python app.py --corrections` makes it, and "
            "found nothing"
        )
    target.make(PARTS)
    target.place(FETCHED, json.dumps(known).encode())  # the folder is ours from now on
    new = {path for path, stamp in stamps.items() if known.get(str(path)) != stamp}
    copied = set()
    for part in reversed(PARTS):
        paths = [path for path in new if path.parent == part]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            copied |= set(filter(None, pool.map(partial(_copy, inbox, target), paths)))
    now = {str(path): stamps[path] for path in stamps.keys() - (new - copied)}
    gone = known.keys() - now.keys()
    for path in gone:
        target.remove(PurePosixPath(path))
    target.place(FETCHED, json.dumps(now).encode())
    annotations = sum(path.startswith(str(PARTS[0])) for path in now)
    return {"annotations": annotations, "copied": len(copied), "removed": len(gone)}


def _list(inbox: Storage) -> dict[PurePosixPath, str]:
    """What is accepted; annotations first, for who stores a photo does so before its boxes."""
    entries = [entry for part in PARTS for entry in inbox.entries(part)]
    return {each.path: each.stamp for each in entries if not each.path.name.startswith(".")}


def _read_known(target: Storage, folder: Path) -> dict[str, str]:
    """What was copied there before, by path: its stamp.

    Raises:
        InvalidParameter: the folder holds something else.
    """
    content = target.find(FETCHED)
    if content is None and folder.is_dir() and any(folder.iterdir()):
        raise InvalidParameter(
            f"{folder}: expected no such folder, an empty one, or one that `fetch` has made"
        )
    try:
        return dict(json.loads(content or b"{}"))
    except (ValueError, TypeError):
        return {}  # edited by hand: all is copied again


def _copy(inbox: Storage, target: Storage, path: PurePosixPath) -> PurePosixPath | None:
    """The path; None where the file has gone meanwhile."""
    content = inbox.find(path)
    if content is None:
        return None
    target.place(path, content)
    return path
