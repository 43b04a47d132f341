"""Videos through a detector: several frames under way at once, boxes drawn, JSON lines."""

import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self, Unpack

import cv2
import numpy as np
from tqdm import tqdm

from client import drawing, images
from client.detection import Result
from client.errors import DetectorError, InvalidParameter
from client.frames import Frame, Source, quiet
from client.tensors import Parameters

# H.264 is in none of OpenCV's packages, and VP9 takes five times as long as VP8.
CODECS = {".webm": "VP80", ".mp4": "mp4v"}
# One frame travels while the other is answered. More would only make the answers older.
LIVE_CONCURRENCY = 2
# Seconds. A larger step from one frame to the next is a break in a file's clock, not a still.
LONGEST_STEP = 10.0


class SupportsDetect(Protocol):
    """What is asked of a detector: `Detector` has it, and so may others."""

    def detect(self, image: bytes, **parameters: Unpack[Parameters]) -> Result: ...


def detect(
    detector: SupportsDetect,
    frames: Iterable[Frame],
    *,
    concurrency: int = 8,
    **parameters: Unpack[Parameters],
) -> Iterator[tuple[Frame, Result]]:
    """Yield each frame with its result, in order; the frames travel as JPEGs.

    No more than `concurrency` frames are held, which may be large, whatever their answers wait for.
    They are encoded in as many threads.

    Args:
        detector: answers.
        frames: taken as the results are consumed, so a camera's may have no end.
        concurrency: frames under way at once, 1 or more.
        parameters: the three of `Detector.detect`, for all frames.

    Raises:
        DetectorError: a frame failed.
        InvalidParameter: concurrency is below 1.
    """
    if concurrency < 1:
        raise InvalidParameter(f"concurrency must be 1 or more, but got {concurrency}")
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="video")
    under_way: deque[tuple[Frame, Future[Result]]] = deque()
    try:
        for frame in frames:
            under_way.append((frame, pool.submit(_ask, detector, frame, parameters)))
            if len(under_way) == concurrency:
                yield _answered(*under_way.popleft())
        while under_way:
            yield _answered(*under_way.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def run_video(
    source: Source,
    detector: SupportsDetect,
    *,
    write: Callable[[str], Any],
    as_json: bool = False,
    drawn: Path | None = None,
    concurrency: int = 8,
    **parameters: Unpack[Parameters],
) -> None:
    """Detect in each frame under a progress bar, and tell at the end how it went.

    Args:
        source: a `VideoFile` or a `Camera`.
        detector: answers.
        write: takes one line for the standard output.
        as_json: write one JSON object per frame, and the summary to the error stream.
        drawn: the WebM file to write with the boxes drawn, replaced if it exists.
        concurrency: frames under way at once; of a camera 2 at most.
        parameters: the three of `Detector.detect`, for all frames.

    Raises:
        DetectorError: the source, a frame or the file failed. What was drawn by then plays.
    """
    if source.live:
        concurrency = min(concurrency, LIVE_CONCURRENCY)
    summary = Summary(source)
    try:
        with ExitStack() as stack:
            bar = stack.enter_context(_progress(source))
            recording = stack.enter_context(Recording(drawn, source.fps)) if drawn else None
            for frame, result in detect(detector, source, concurrency=concurrency, **parameters):
                if recording:
                    recording.add(drawing.draw(frame.picture, result.detections), frame.seconds)
                if as_json:
                    write(_line(source, frame, result))
                summary.add(result)
                bar.set_postfix_str(summary.now(result), refresh=False)
                bar.update()
        source.check_end()
    finally:
        if as_json:
            tqdm.write(str(summary), file=sys.stderr)
        else:
            write(str(summary))


class Recording:
    """A video file, made with the first picture.

    Args:
        path: replaced if it exists; .webm, which browsers play, or .mp4, which is written ten times
            as fast: MPEG-4 part 2, which players play but browsers do not.
        fps: pictures a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._file: cv2.VideoWriter | None = None
        self._size = (0, 0)  # width, height
        self._seconds = 0.0  # of the last picture, in the file
        self._time = 0.0  # of the last picture, in the source
        self.count = 0  # of pictures in the file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Show a picture from this time on; it is repeated where the source left out frames.

        Args:
            picture: uint8 BGR [H, W, 3]; if not of the first one's size, it is stretched to it.
            seconds: of the source, since its beginning.

        Raises:
            DetectorError: the file cannot be written.
        """
        if self._file is None:
            self._file = self._open(picture)
            self._time = seconds
        elif picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        step, self._time = seconds - self._time, seconds
        self._seconds += step if 0 < step < LONGEST_STEP else 0
        for _ in range(max(1, round(self._seconds * self.fps) + 1 - self.count)):
            self._file.write(picture)
            self.count += 1

    def close(self) -> None:
        """Write what is left to write; the file is whole now."""
        if self._file:
            self._file.release()

    def _open(self, picture: np.ndarray) -> cv2.VideoWriter:
        self._size = (picture.shape[1], picture.shape[0])
        try:
            self.path.open("wb").close()  # OpenCV would not say why it cannot
        except OSError as error:
            raise DetectorError(f"{self.path}: cannot be saved: {error.strerror}") from None
        codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix])
        name = str(self.path.absolute())  # FFmpeg would take `http:a.webm` for an address
        with quiet():
            file = cv2.VideoWriter(name, cv2.CAP_FFMPEG, codec, self.fps, self._size)
        if not file.isOpened():
            width, height = self._size
            raise DetectorError(
                f"{self.path}: cannot be saved: OpenCV writes no video of {width}x{height} pixels"
            )
        return file


class Summary:
    """What is told while a video runs, and of the whole at its end."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._began = time.monotonic()
        self._frames = 0
        self._counts: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """Count a frame's result."""
        self._frames += 1
        self._counts.update(result.counts())

    def now(self, result: Result) -> str:
        """Return what the latest frame shows, for the end of the progress bar."""
        found = [f"{count} {label}" for label, count in result.counts().items()]
        return ", ".join(found + self._dropped())

    def __str__(self) -> str:
        """Return one line: frames, frames a second, detections in a frame."""
        seconds = time.monotonic() - self._began
        rate = self._frames / max(seconds, 1e-9)
        found = [
            f"{count / self._frames:.1f} {label}" for label, count in self._counts.most_common()
        ]
        parts = [f"{self._frames} frames in {seconds:.1f} s", f"{rate:.1f} frames/s"]
        parts += [*self._dropped(), f"in a frame {', '.join(found) or 'nothing'}"]
        return f"{self._source.name}: {'; '.join(parts)}"

    def _dropped(self) -> list[str]:
        return [f"{self._source.dropped} dropped"] if self._source.live else []


def _ask(detector: SupportsDetect, frame: Frame, parameters: Parameters) -> Result:
    return detector.detect(images.jpeg(frame.picture), **parameters)


def _answered(frame: Frame, answer: Future[Result]) -> tuple[Frame, Result]:
    return frame, answer.result()


def _progress(source: Source) -> "tqdm[Any]":
    return tqdm(
        total=source.total or None, unit="frame", desc=source.name, disable=None, leave=False
    )


def _line(source: Source, frame: Frame, result: Result) -> str:
    at = {"file": source.name, "frame": frame.number, "seconds": round(frame.seconds, 3)}
    return json.dumps(at | result.to_dict())
