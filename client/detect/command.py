"""The command `detect`: photos from files and folders, results to the standard output or a file.

Videos and a camera, in video_command.py, come after the photos.

A photo that fails is told on the error stream, and the others go on. A failure that would repeat
itself with each of them, such as a server that is away, ends the run.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from tqdm import tqdm

from client.detect import files as photos
from client.detect.formats import Format
from client.detect.output import Output
from client.detect.report import Json, Report, Table
from client.detection import Result
from client.detector import Detector
from client.errors import (
    DeadlineExceeded,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    ServerError,
)
from client.local.detector import LocalDetector
from client.tensors import Parameters
from client.transports.security_options import SecurityOptions

NAMED = 5  # files that are passed over, in a message
SERVERS_DEFAULT = "(default: the server's)"
Optional01 = Annotated[
    float | None, tyro.conf.arg(metavar="0..1", help_behavior_hint=SERVERS_DEFAULT)
]


@dataclass(frozen=True)
class Detect:
    """Detect objects in photos with a running Triton server, or without one (--local).

    - A table of a few photos: python -m client detect photo.jpg
    - A file of thousands: python -m client detect photos/ --output found.csv
    - After that was interrupted: the same with --resume

    Exit code: 0 all photos fine, 1 a photo or the server failed, 2 wrong usage.
    """

    photos: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PHOTO...", help_behavior_hint=""),
    ]
    """Image and video files, and folders, which are searched for images with their subfolders."""

    url: Annotated[str, tyro.conf.arg(metavar="HOST:PORT")] = "127.0.0.1:8001"
    """Address of the server's gRPC port, or a URL such as http://HOST:8000; several by commas."""

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
    """Write one JSON document instead of the table; of a video or camera, a line per frame."""

    output: Annotated[
        Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: a table)")
    ] = None
    """Write a file or a folder instead of the table, for any number of photos."""

    format: Annotated[
        Format | None,
        tyro.conf.arg(
            metavar="{jsonl,coco,voc,yolo,csv}",
            help_behavior_hint="(default: by the suffix: .jsonl, .json is coco, .csv)",
        ),
    ] = None
    """What --output is; voc and yolo are folders that hold the photos, too, ready for training."""

    coco_ids: Annotated[
        Path | None, tyro.conf.arg(metavar="JSON", help_behavior_hint="(default: a document)")
    ] = None
    """Write COCO results for this annotation file: its photos only, with its ids."""

    resume: bool = False
    """Go on with a run that was interrupted; failed photos are tried again."""

    save: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: none are saved)")
    ] = None
    """Save photos and videos with their boxes drawn in this folder; inputs stay as they are."""

    camera: Annotated[
        str | None, tyro.conf.arg(metavar="CAMERA", help_behavior_hint="(default: none)")
    ] = None
    """Detect in what a camera shows until Ctrl-C: its number from 0, or rtsp://..."""

    tile: Annotated[
        int | None, tyro.conf.arg(metavar="PIXELS", help_behavior_hint="(default: not cut)")
    ] = None
    """Cut larger photos into overlapping tiles of this side, to find small objects in them."""

    local: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: ask the server)"),
    ] = None
    """Without a server: the model repository or artifact to run here, instead of --url."""

    security: Annotated[SecurityOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=SecurityOptions
    )


class Job(NamedTuple):
    """A photo, and where it is to be saved with its boxes drawn."""

    photo: Path
    target: Path | None


def run(settings: Detect) -> int:
    """Detect, report, and return the exit code. The place to tell kinds of input apart.

    Raises:
        DetectorError: a failure that is not one photo's own.
        InvalidParameter: a setting that makes no sense.
    """
    _check(settings)
    videos = tuple(filter(photos.is_video, settings.photos))
    others = tuple(path for path in settings.photos if path not in videos)
    bad = _run_photos(replace(settings, photos=others)) if others else 0
    if videos or settings.camera is not None:
        bad += _run_videos(settings, videos)
    return 1 if bad else 0


def _detector(settings: Detect) -> Detector | LocalDetector:
    """Return the detector that the settings name."""
    if settings.local:
        return LocalDetector(settings.local, model=settings.model)
    return Detector(
        settings.url,
        model=settings.model,
        timeout=settings.timeout,
        canary_key=settings.canary_key,
        security=settings.security.read(),
    )


def _check(settings: Detect) -> None:
    if not settings.photos and settings.camera is None:
        raise InvalidParameter("name at least one photo, video or folder; see detect --help")
    moving = [photos.is_video(path) for path in settings.photos] + [True] * bool(settings.camera)
    if settings.output and any(moving):
        raise InvalidParameter("--output is of photos: of videos take --json, or --save")
    if settings.json and any(moving) and not all(moving):
        raise InvalidParameter("--json: a document of photos or lines of videos, not both at once")
    if settings.json and settings.output:
        raise InvalidParameter("--json goes to the standard output: leave it out with --output")
    if not settings.output and (settings.format or settings.coco_ids or settings.resume):
        raise InvalidParameter("--format, --coco-ids and --resume go with --output PATH")


def _run_photos(settings: Detect) -> int:
    output = _output(settings)
    if settings.save:
        _make(settings.save)
    files, bad = _find(settings, output)
    jobs = _jobs(files, settings.save)
    if output is None:
        report: Report = Json(tqdm.write) if settings.json else Table(files, tqdm.write)
        with closing(report):
            bad += _detect_all(settings, jobs, report)
    elif jobs:
        bad += _fill(output, settings, jobs)
    return 1 if bad else 0


def _run_videos(settings: Detect, videos: Sequence[Path]) -> int:
    from client.detect import video_command

    if settings.save:
        _make(settings.save)
    with _detector(settings) as detector:
        return video_command.run(
            detector,
            videos,
            settings.camera,
            save=settings.save,
            as_json=settings.json,
            concurrency=settings.concurrency,
            **_parameters(settings),
        )


def _output(settings: Detect) -> Output | None:
    if settings.output is None:
        return None
    return Output(settings.output, settings.format, settings.coco_ids)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameter(f"--save {folder}: {error.strerror}") from None


def _find(settings: Detect, output: Output | None) -> tuple[list[Path], int]:
    """Return the photos, and how many of the paths gave none."""
    files: list[Path] = []
    bad = 0
    made = [settings.save] if settings.save else []
    made += output.made if output else []
    for path in settings.photos:
        found = photos.look_through(path, leave_out=made)
        files += found.images
        if not found.images:
            _complain(f"{path}: a folder without images ({' '.join(sorted(photos.SUFFIXES))})")
            bad += 1
        if found.others:
            _complain(f"{path}: passed over {_counted(path, found.others)}")
    wanted = output.wanted(files) if output else files
    if left_out := len(set(files)) - len(set(wanted)):
        _complain(f"{left_out} photos are not in {settings.coco_ids}: left out")
    return wanted, bad


def _counted(folder: Path, files: Sequence[Path]) -> str:
    """Return how many files of the folder these are, and the names of the first."""
    names = ", ".join(str(file.relative_to(folder)) for file in files[:NAMED])
    more = ", ..." if len(files) > NAMED else ""
    return f"{len(files)} {'file' if len(files) == 1 else 'files'}: {names}{more}"


def _jobs(files: Sequence[Path], save: Path | None) -> list[Job]:
    targets = photos.targets(files, save) if save else [None] * len(files)
    return list(map(Job, files, targets))


def _fill(output: Output, settings: Detect, jobs: Sequence[Job]) -> int:
    """Detect in the photos that have no result yet, make the output, return how many were bad."""
    with output.journal(_decisive(settings), resume=settings.resume) as journal:
        left = [job for job in jobs if not journal.done(job.photo)]
        begin = time.monotonic()
        bad = _detect_all(settings, left, journal, done=len(jobs) - len(left))
        rate = f", {len(left) / (time.monotonic() - begin):.1f} photos/s" if left else ""
        output.write(journal, [job.photo for job in jobs])
    again = " (--resume tries them again)" if bad else ""
    _complain(f"{output.path}: {len(jobs)} photos, {bad} failed{again}{rate}")
    return bad


def _decisive(settings: Detect) -> Mapping[str, Any]:
    """Return the settings that results depend on: a run is resumed with the same."""
    names = ("model", "canary_key", "score_threshold", "iou_threshold", "max_detections", "tile")
    return {name: getattr(settings, name) for name in names} | {
        "local": str(settings.local) if settings.local else None
    }


def _detect_all(settings: Detect, jobs: Sequence[Job], report: Report, done: int = 0) -> int:
    """Report each photo in its turn and return how many were bad.

    A timeout or an error of the server may be due to one photo. They end the run where more of them
    follow one another than photos are under way at once; an error, before the first result, too.
    """
    bad, answered, patience = 0, done > 0, settings.concurrency
    with _detector(settings) as detector, _bar(len(jobs) + done, done) as bar:
        for job, outcome in zip(jobs, _outcomes(detector, settings, jobs), strict=True):
            try:
                _take(job, outcome, report)
                answered, patience = True, settings.concurrency
            except (InvalidImage, DeadlineExceeded, ServerError) as error:
                patience -= not isinstance(error, InvalidImage)
                if patience < 0 or (isinstance(error, ServerError) and not answered):
                    raise
                report.failed(job.photo, error)
                _complain(str(error))
                bad += 1
                bar.set_postfix(failed=bad, refresh=False)
            bar.update()
    return bad


def _outcomes(
    detector: Detector | LocalDetector, settings: Detect, jobs: Sequence[Job]
) -> Iterator[Result | DetectorError]:
    files = [job.photo for job in jobs]
    if settings.tile is not None:
        return _tiled(detector, settings, files, settings.tile)
    return detector.detect_many(
        files, concurrency=settings.concurrency, errors="return", **_parameters(settings)
    )


def _tiled(
    detector: Detector | LocalDetector, settings: Detect, files: Sequence[Path], tile: int
) -> Iterator[Result | DetectorError]:
    """Yield the outcomes one photo after the other: its tiles are under way at once."""
    from client.tiles import detect_tiled  # OpenCV is only needed here

    options = _parameters(settings)
    for file in files:
        try:
            yield detect_tiled(
                detector, file, tile=tile, concurrency=settings.concurrency, **options
            )
        except DetectorError as error:
            yield error


def _parameters(settings: Detect) -> Parameters:
    return {
        "score_threshold": settings.score_threshold,
        "iou_threshold": settings.iou_threshold,
        "max_detections": settings.max_detections,
    }


def _bar(total: int, done: int) -> tqdm:
    """Return a progress bar, which shows on a terminal for several photos."""
    hidden = True if total < 2 else None  # None: hidden where there is no terminal
    return tqdm(total=total, initial=done, unit="photo", disable=hidden, leave=False)


def _take(job: Job, outcome: Result | DetectorError, report: Report) -> None:
    if isinstance(outcome, DetectorError):
        raise outcome
    if job.target:
        _save(job.photo, outcome, job.target)
    report.found(job.photo, outcome)


def _save(photo: Path, result: Result, target: Path) -> None:
    from client import drawing  # OpenCV is only needed here

    try:
        picture = drawing.read(photo, result.width * result.height)  # what was decoded once
        drawing.write(drawing.draw(picture, result.detections), target)
    except OSError as error:
        raise DetectorError(f"{target}: cannot be saved: {error.strerror}") from None


def _complain(message: str) -> None:
    tqdm.write(message, file=sys.stderr)
