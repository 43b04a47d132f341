"""The command `detect` on photos: results to the standard output, or to a file by way of a journal.

A photo that fails is told on the error stream, and the others go on. A failure that would repeat
itself with each of them, such as a server that is away, ends the run.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from client.detect import files as photos
from client.detect.output import Output
from client.detect.report import Json, Report, Table
from client.detect.settings import Detect
from client.detection import Result
from client.detector import Detector
from client.errors import DeadlineExceeded, DetectorError, InvalidImage, ServerError
from client.local.detector import LocalDetector

if TYPE_CHECKING:
    from client.detect.sampler import Sampler

NAMED = 5  # files that are passed over, in a message


class Job(NamedTuple):
    """A photo, and where it is to be saved with its boxes drawn."""

    photo: Path
    target: Path | None


def run_photos(settings: Detect) -> int:
    """Detect in the photos, report, and return how many of them and of the paths were bad."""
    output = _output(settings)
    settings.make_save_folder()
    files, bad = _find(settings, output)
    jobs = _jobs(files, settings.save)
    if output is None:
        report: Report = Json(tqdm.write) if settings.json else Table(files, tqdm.write)
        with closing(report):
            bad += _detect_all(settings, jobs, report)
    elif jobs:
        bad += _fill(output, settings, jobs)
    return bad


def _output(settings: Detect) -> Output | None:
    if settings.output is None:
        return None
    return Output(settings.output, settings.format, settings.coco_ids)


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
    with output.journal(settings.decisive(), resume=settings.resume) as journal:
        left = [job for job in jobs if not journal.done(job.photo)]
        begin = time.monotonic()
        bad = _detect_all(settings, left, journal, done=len(jobs) - len(left))
        rate = f", {len(left) / (time.monotonic() - begin):.1f} photos/s" if left else ""
        output.write(journal, [job.photo for job in jobs])
    again = " (--resume tries them again)" if bad else ""
    _complain(f"{output.path}: {len(jobs)} photos, {bad} failed{again}{rate}")
    return bad


def _detect_all(settings: Detect, jobs: Sequence[Job], report: Report, done: int = 0) -> int:
    """Report each photo in its turn and return how many were bad.

    A timeout or an error of the server may be due to one photo. They end the run where more of them
    follow one another than photos are under way at once; an error, before the first result, too.
    """
    bad, answered, patience = 0, done > 0, settings.concurrency
    bulk = settings.output is not None or len(jobs) > 1
    sampler = _open_sampler(settings)
    with settings.open_detector(bulk=bulk) as detector, _bar(len(jobs) + done, done) as bar:
        for job, outcome in zip(jobs, _outcomes(detector, settings, jobs), strict=True):
            try:
                result = _take(job, outcome, report)
                if sampler:
                    sampler.offer(job.photo, result)
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
    return bad + (sampler.failures if sampler else 0)


def _open_sampler(settings: Detect) -> "Sampler | None":
    if not settings.inbox:
        return None
    from client.detect.sampler import open_sampler  # OpenCV is only needed here

    return open_sampler(settings.inbox, settings, _complain)


def _outcomes(
    detector: Detector | LocalDetector, settings: Detect, jobs: Sequence[Job]
) -> Iterator[Result | DetectorError]:
    files = [job.photo for job in jobs]
    if settings.tile is not None:
        return _tiled(detector, settings, files, settings.tile)
    return detector.detect_many(
        files, concurrency=settings.concurrency, errors="return", **settings.parameters()
    )


def _tiled(
    detector: Detector | LocalDetector, settings: Detect, files: Sequence[Path], tile: int
) -> Iterator[Result | DetectorError]:
    """Yield the outcomes one photo after the other: its tiles are under way at once."""
    from client.tiles import detect_tiled  # OpenCV is only needed here

    options = settings.parameters()
    for file in files:
        try:
            yield detect_tiled(
                detector, file, tile=tile, concurrency=settings.concurrency, **options
            )
        except DetectorError as error:
            yield error


def _bar(total: int, done: int) -> tqdm:
    """Return a progress bar, which shows on a terminal for several photos."""
    hidden = True if total < 2 else None  # None: hidden where there is no terminal
    return tqdm(total=total, initial=done, unit="photo", disable=hidden, leave=False)


def _take(job: Job, outcome: Result | DetectorError, report: Report) -> Result:
    if isinstance(outcome, DetectorError):
        raise outcome
    if job.target:
        _save(job.photo, outcome, job.target)
    report.found(job.photo, outcome)
    return outcome


def _save(photo: Path, result: Result, target: Path) -> None:
    from client import drawing  # OpenCV is only needed here

    try:
        picture = drawing.read(photo, result.width * result.height)  # what was decoded once
        drawing.write(drawing.draw(picture, result.detections), target)
    except OSError as error:
        raise DetectorError(f"{target}: cannot be saved: {error.strerror}") from None


def _complain(message: str) -> None:
    tqdm.write(message, file=sys.stderr)
