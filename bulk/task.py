"""What a worker does: detect in the photos of one part and create its file, once."""

import hashlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2

from bulk.listing import Part
from bulk.place import open_place
from bulk.rows import Counts, count_rows, make_row, write_rows
from bulk.settings import Bulk, Network, find_network
from client.detection import Result
from client.detector import Detector
from client.errors import DeadlineExceeded, DetectorError, InvalidImage, ServerError
from client.local.detector import LocalDetector
from client.ordered import in_order

PATIENCE = 8  # photos of a part that a server may fail: more are not the photos' own doing


@dataclass(frozen=True)
class Task:
    """What all parts of a run share. It travels to other machines, on which paths must be the same.

    Attributes:
        listing: its digest.
        network: what a worker must find in the folder of `settings.local`.
    """

    settings: Bulk
    photos: str
    output: str
    listing: str
    network: Network | None


@dataclass(frozen=True)
class Done:
    """A part that is whole; `fresh`: this call made it."""

    counts: Counts
    fresh: bool


def detect_part(task: Task, part: Part) -> Done:
    """Create a part's file, unless it is there.

    A photo that cannot be read is a row with an error. So is one that a server fails, up to
    PATIENCE of them. What would fail again with the next photo ends the part without a file.

    Raises:
        DetectorError: of the server, the network or the settings.
        StoreError: a place is away or denies access, or the file there is not the part's.
    """
    output = open_place(task.output)
    count = partial(count_rows, listing=task.listing, photos=len(part.paths), name=part.name)
    if there := output.find(part.name):
        return Done(count(there), fresh=False)
    data = write_rows(_detect_all(task, part.paths), task.listing)
    output.create(part.name, data)
    return Done(count(data), fresh=True)


def _detect_all(task: Task, paths: Sequence[str]) -> list[dict]:
    detector = _open_detector(task.settings, task.network)
    read = open_place(task.photos).read_photo
    digests: dict[str, str] = {}
    detect = partial(_detect_photo, detector, read, task.settings.parameters(), digests)
    outcomes = in_order(
        (partial(detect, path) for path in paths), task.settings.concurrency, "return"
    )
    version = task.network.version if task.network else None
    rows, patience = [], PATIENCE
    for path, outcome in zip(paths, outcomes, strict=True):
        if isinstance(outcome, DeadlineExceeded | ServerError):
            patience -= 1
        if isinstance(outcome, DetectorError) and (patience < 0 or not _is_own(outcome)):
            raise outcome
        said = outcome if isinstance(outcome, Result) else str(outcome).removeprefix("the image: ")
        rows.append(make_row(path, digests.get(path), said, version))
    return rows


def _detect_photo(
    detector: Detector | LocalDetector,
    read: Callable[[str], bytes],
    parameters: Any,
    digests: dict[str, str],
    path: str,
) -> Result:
    data = read(path)
    digests[path] = hashlib.sha256(data).hexdigest()
    return detector.detect(data, **parameters)


def _is_own(error: DetectorError) -> bool:
    """Whether it may be due to the photo."""
    return isinstance(error, InvalidImage | DeadlineExceeded | ServerError)


@cache
def _open_detector(settings: Bulk, network: Network | None) -> Detector | LocalDetector:
    """Open this process's detector, of one thread a network: there is a worker for each core."""
    if settings.local is None or network is None:
        return Detector(
            settings.url,
            model=settings.model,
            timeout=settings.timeout,
            security=settings.security.read(),
            bulk=True,
        )
    _check_network(settings.local, settings.model, network)
    cv2.setNumThreads(1)
    cv2.setLogLevel(0)  # the row tells of a bad photo, the log need not
    model, version = settings.model, network.number
    return LocalDetector(settings.local, model=model, version=version, threads=1)


def _check_network(folder: Path, model: str, network: Network) -> None:
    """Refuse a network that is not the run's."""
    found = find_network(folder, model, network.number)
    if found != network:
        raise DetectorError(
            f"{folder} on {socket.gethostname()} holds another network ({found}) than where the "
            f"run was begun ({network}): copy the same folder there"
        )
