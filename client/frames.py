"""The frames of a video file, one and all, or of a camera, always the newest.

A camera is named by whoever runs the program. A file may be anybody's: it is known by its first
bytes, its name means nothing, and a process of its own reads it (`client.video_reader`).
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, Protocol, Self

import cv2
import numpy as np

from client.errors import DetectorError, InvalidImage
from client.images import MAX_PIXELS

# FFmpeg's readers, and the first bytes of what they read. None of these files says where another
# one lies that is to be read as well, as playlists do.
CONTAINERS = {
    "mov": re.compile(rb".{4}(ftyp|moov|mdat|wide|free|skip|pnot)", re.DOTALL),  # MP4, too
    "matroska": re.compile(rb"\x1aE\xdf\xa3"),  # WebM, too
    "avi": re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
    "ogg": re.compile(rb"OggS"),
}
READER = Path(__file__).with_name("video_reader.py")
READER_MEMORY = 2 * 2**30  # bytes that reading one file may take

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

    Args:
        path: an MP4, MOV, Matroska, WebM, AVI or Ogg file, whatever its name.
        max_pixels: of a frame.
        seconds: after which no more frames come; 0: any time. Not on Windows.

    Raises:
        InvalidImage: it cannot be opened, is something else, or its frames are too large.
    """

    live = False
    dropped = 0

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS, seconds: int = 0) -> None:
        self.name = str(path)
        self._reader = _reader_of(path, max_pixels, seconds)
        try:
            self.fps, self.total = self._told(max_pixels)
        except BaseException:
            self.close()
            raise
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames that are left."""
        while (line := self._line()) is not None:
            rows = np.empty((line["height"], line["stride"]), np.uint8)
            if self._output.readinto(rows) < rows.size:
                return
            picture = rows[:, : 3 * line["width"]].reshape(line["height"], line["width"], 3)
            upright = np.ascontiguousarray(np.rot90(picture, line["turn"]))
            yield Frame(self._count, line["seconds"], upright)
            self._count += 1

    @property
    def broken_off(self) -> bool:
        """Whether there were far fewer frames than the file announces."""
        # A few are no damage: some containers tell a length only, their sound's perhaps.
        return self._count == 0 or self._count < 0.95 * self.total - 2

    def check_end(self) -> None:
        """Raise InvalidImage if the file broke off."""
        if self.broken_off:
            announced = f" of {self.total}" if self.total else ""
            raise InvalidImage(
                f"{self.name}: broken off after {self._count}{announced} frames, "
                "the rest cannot be read"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._reader.kill()
        self._output.close()
        self._reader.wait()

    @property
    def _output(self) -> Any:
        return self._reader.stdout

    def _line(self) -> Any:
        """Return the next line of JSON; None at the end."""
        line = self._output.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def _told(self, max_pixels: int) -> tuple[float, int]:
        """Return the rate and the number of frames that the file announces."""
        about = self._line()
        if about is None:
            raise InvalidImage(
                f"{self.name}: not a video that can be read, or its beginning or end is lost"
            )
        if about["width"] * about["height"] > max_pixels:
            raise InvalidImage(
                f"{self.name}: its frames of {about['width']}x{about['height']} are larger than "
                f"the {max_pixels / 1e6:.0f} megapixels that are read"
            )
        return _possible(about["fps"]), about["total"]


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
        self.fps = _possible(self._capture.get(cv2.CAP_PROP_FPS))
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


def _reader_of(path: Path, max_pixels: int, seconds: int) -> subprocess.Popen[bytes]:
    """Return the process that reads a file; it gets the file, and not its name."""
    if importlib.util.find_spec("av") is None:
        raise DetectorError("a video is read by PyAV, which is not installed: pip install av")
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise InvalidImage(f"{path}: {error.strerror}") from None
    with file:
        limits = map(str, (max_pixels, READER_MEMORY, seconds))
        return subprocess.Popen(
            [sys.executable, "-P", READER, _container(file, path), *limits],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def _container(file: RawIOBase, path: Path) -> str:
    """Return FFmpeg's name for what the file is by its first bytes."""
    first = file.read(12) or b""
    file.seek(0)
    for kind, signature in CONTAINERS.items():
        if signature.match(first):
            return kind
    raise InvalidImage(
        f"{path}: not a video that can be read: MP4, MOV, Matroska, WebM, AVI or Ogg expected"
    )


def _possible(fps: float) -> float:
    return fps if 1 <= fps <= 240 else USUAL_FPS
