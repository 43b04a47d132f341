"""The frames of a video file, one and all, or of a camera, always the newest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import cv2
import numpy as np

from client.errors import InvalidImage

USUAL_FPS = 30.0  # where a source tells no rate, or one that cannot be

# What FFmpeg says of broken videos is for its developers; -8 is its AV_LOG_QUIET. Set before its
# first use in this process.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    number: from 0, as the source gave them: those that a camera dropped are missing.
    seconds: since the beginning.
    picture: uint8 BGR [H, W, 3], upright.
    """

    number: int
    seconds: float
    picture: np.ndarray


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def read(self) -> tuple[bool, np.ndarray]: ...
    def get(self, property_id: int) -> float: ...
    def release(self) -> None: ...


class Source(Protocol):
    """Where frames come from.

    name: what to call it in a message.
    fps: frames a second, as it says itself.
    total: how many frames there are, 0 where that is not known.
    live: whether frames come whether or not anybody takes them.
    dropped: how many of those nobody took.
    """

    live: bool
    name: str
    fps: float
    total: int
    dropped: int

    def __iter__(self) -> Iterator[Frame]: ...
    def check_end(self) -> None:
        """Raise InvalidImage if the frames ended too early."""


class VideoFile:
    """Every frame of a file, in order, turned upright where the file says so.

    Raises:
        InvalidImage: it cannot be opened.
    """

    live = False
    dropped = 0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._capture = _open_file(path)
        self.fps = _rate(self._capture)
        self.total = max(0, round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames that are left."""
        while (read := self._capture.read())[0]:
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield Frame(self._count, seconds, read[1])
            self._count += 1

    def check_end(self) -> None:
        """Raise InvalidImage if the file broke off: it gave far fewer frames than it announced."""
        # A few are no damage: some containers tell a length only, their sound's perhaps.
        if self._count == 0 or self._count < 0.95 * self.total - 2:
            announced = f" of {self.total}" if self.total else ""
            raise InvalidImage(
                f"{self.name}: broken off after {self._count}{announced} frames, "
                "the rest cannot be read"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()


class Camera:
    """The newest frame of a camera, each at most once.

    A thread takes every frame from the camera, so that none waits in its buffers; a frame that
    nobody asked for until the next one came is dropped and counted.

    Args:
        name: its number from 0, its device file, or its address (rtsp://...).
        capture: opens it.

    Raises:
        InvalidImage: it cannot be opened.
    """

    live = True
    total = 0

    def __init__(self, name: str, capture: Callable[[Any], Capture] = cv2.VideoCapture) -> None:
        self.name = f"camera {name}"
        self.dropped = 0
        with quiet():
            self._capture = capture(int(name) if name.isdecimal() else name)
        if not self._capture.isOpened():
            raise InvalidImage(
                f"{self.name}: cannot be opened: there is none, another program has it, or it may "
                "not be read"
            )
        self.fps = _rate(self._capture)
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._ended = self._closed = False
        self._reader = threading.Thread(target=self._read, name=self.name, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Wait for a frame newer than the last one, and yield it, for as long as some come."""
        while (frame := self._take()) is not None:
            yield frame

    def check_end(self) -> None:
        """Raise InvalidImage: a camera has no end."""
        raise InvalidImage(f"{self.name}: gives no more frames")

    def close(self) -> None:
        """Let go of the camera."""
        self._closed = True
        self._reader.join(timeout=5)  # a camera that hangs is left to the end of the process

    def _take(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._ended)
            frame, self._newest = self._newest, None
            return frame

    def _read(self) -> None:
        began = time.monotonic()
        number = 0
        while not self._closed:
            read, picture = self._capture.read()
            if not read:
                break
            frame = Frame(number, time.monotonic() - began, picture)
            with self._changed:
                self.dropped += self._newest is not None
                self._newest = frame
                self._changed.notify()
            number += 1
        self._capture.release()
        with self._changed:
            self._ended = True
            self._changed.notify()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep away what OpenCV and FFmpeg write of a file or a camera that they open.

    They write to the file descriptor itself, past sys.stderr.
    """
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _open_file(path: Path) -> cv2.VideoCapture:
    """Return an open capture; FFmpeg itself does not say why it cannot open a file."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidImage(f"{path}: {error.strerror}") from None
    with quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InvalidImage(f"{path}: not a video that can be read, or its beginning or end is lost")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # off by default in OpenCV 4.11
    return capture


def _rate(capture: Capture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 1 <= fps <= 240 else USUAL_FPS
