"""Every frame of a video file, which another process reads."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any, Self

import numpy as np

from client.errors import DetectorError, InvalidImage
from client.frames.source import Frame, possible_fps
from client.images import MAX_PIXELS

# FFmpeg's readers, and the first bytes of what they read. None of these files says where another
# one lies that is to be read as well, as playlists do.
CONTAINERS = {
    "mov": re.compile(rb".{4}(ftyp|moov|mdat|wide|free|skip|pnot)", re.DOTALL),  # MP4, too
    "matroska": re.compile(rb"\x1aE\xdf\xa3"),  # WebM, too
    "avi": re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
    "ogg": re.compile(rb"OggS"),
}
READER = Path(__file__).with_name("reader.py")
READER_MEMORY = 2 * 2**30  # bytes that reading one file may take


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
            self.fps, self.total = self._read_header(max_pixels)
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

    def _read_header(self, max_pixels: int) -> tuple[float, int]:
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
        return possible_fps(about["fps"]), about["total"]


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
