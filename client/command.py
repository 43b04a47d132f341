"""The command `detect`: photos from files and folders, results to the standard output.

A photo that cannot be read is told on the error stream, and the others go on. Any other failure
is not the photo's own and would repeat itself with each: it ends the run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from client import photos
from client.detection import Result
from client.detector import Detector
from client.errors import DetectorError, InvalidImage, InvalidParameter
from client.local import LocalDetector
from client.report import Json, Report, Table

SERVERS_DEFAULT = "(default: the server's)"
Optional01 = Annotated[
    float | None, tyro.conf.arg(metavar="0..1", help_behavior_hint=SERVERS_DEFAULT)
]


@dataclass(frozen=True)
class Detect:
    """Detect objects in photos with a running Triton server, or without one (--local).

    Exit code: 0 all photos fine, 1 a photo or the server failed, 2 wrong usage.
    """

    photos: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PHOTO...", help_behavior_hint=""),
    ]
    """Image files and folders; folders are searched with their subfolders."""

    url: Annotated[str, tyro.conf.arg(metavar="HOST:PORT")] = "127.0.0.1:8001"
    """Address of the server's gRPC port."""

    model: str = "ensemble"
    """Name of the ensemble on the server."""

    canary_key: Annotated[
        str,
        tyro.conf.arg(metavar="KEY", help_behavior_hint="(default: no key, never the canary)"),
    ] = ""
    """Take part in a canary, if there is one: the key decides on which side, the same each time."""

    score_threshold: Optional01 = None
    """Leave out detections with a lower score."""

    iou_threshold: Optional01 = None
    """Of two boxes of one class that overlap more, keep only the better one."""

    max_detections: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=SERVERS_DEFAULT)
    ] = None
    """Detections per photo at most."""

    timeout: float = 30.0
    """Seconds that one photo may take."""

    concurrency: int = 8
    """Photos under way at once."""

    json: bool = False
    """Write one JSON document instead of the table."""

    save: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: none are saved)")
    ] = None
    """Save the photos with their boxes drawn in this folder; inputs are never overwritten."""

    local: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: ask the server)"),
    ] = None
    """Without a server: the model repository or artifact to run here, instead of --url."""


def run(settings: Detect) -> int:
    """Detect, report, and return the exit code.

    Raises:
        DetectorError: a failure that is not one photo's own.
        InvalidParameter: a setting that makes no sense.
    """
    if not settings.photos:
        raise InvalidParameter("name at least one photo or folder; see detect --help")
    if settings.save:
        _make(settings.save)
    files, bad = _find(settings)
    report: Report = Json(tqdm.write) if settings.json else Table(files, tqdm.write)
    with closing(report):
        bad += _detect_all(settings, files, report)
    return 1 if bad else 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameter(f"--save {folder}: {error.strerror}") from None


def _find(settings: Detect) -> tuple[list[Path], int]:
    """Return the photos, and how many of the paths gave none."""
    files: list[Path] = []
    bad = 0
    for path in settings.photos:
        found = photos.find(path, leave_out=settings.save)
        files += found
        if not found:
            _complain(f"{path}: a folder without images ({' '.join(sorted(photos.SUFFIXES))})")
            bad += 1
    return files, bad


def _detect_all(settings: Detect, files: Sequence[Path], report: Report) -> int:
    """Report each photo in its turn and return how many were bad."""
    bad = 0
    targets = photos.targets(files, settings.save) if settings.save else [None] * len(files)
    with _detector(settings) as detector:
        outcomes = _outcomes(detector, settings, files)
        for photo, target, outcome in zip(files, targets, outcomes, strict=True):
            try:
                if isinstance(outcome, DetectorError):
                    raise outcome
                if target:
                    _save(photo, outcome, target)
                report.found(photo, outcome)
            except InvalidImage as error:
                report.failed(photo, error)
                _complain(str(error))
                bad += 1
    return bad


def _detector(settings: Detect) -> Detector | LocalDetector:
    if settings.local:
        return LocalDetector(settings.local, model=settings.model)
    return Detector(
        settings.url,
        model=settings.model,
        timeout=settings.timeout,
        canary_key=settings.canary_key,
    )


def _outcomes(
    detector: Detector | LocalDetector, settings: Detect, files: Sequence[Path]
) -> Iterator[Result | DetectorError]:
    """Return the outcomes under a progress bar, which shows on a terminal for several photos."""
    outcomes = detector.detect_many(
        files,
        concurrency=settings.concurrency,
        errors="return",
        score_threshold=settings.score_threshold,
        iou_threshold=settings.iou_threshold,
        max_detections=settings.max_detections,
    )
    hidden = True if len(files) < 2 else None  # None: hidden where there is no terminal
    return iter(tqdm(outcomes, total=len(files), unit="photo", disable=hidden, leave=False))


def _save(photo: Path, result: Result, target: Path) -> None:
    from client import drawing  # OpenCV is only needed here

    try:
        drawing.write(drawing.draw(drawing.read(photo), result.detections), target)
    except OSError as error:
        raise DetectorError(f"{target}: cannot be saved: {error.strerror}") from None


def _complain(message: str) -> None:
    tqdm.write(message, file=sys.stderr)
