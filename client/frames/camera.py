"""The newest frame of a camera."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

import cv2
import numpy as np

from client.errors import InvalidImage
from client.frames.quiet import quiet
from client.frames.source import Frame, possible_fps


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def read(self) -> tuple[bool, np.ndarray]: ...
    def get(self, property_id: int) -> float: ...
    def release(self) -> None: ...


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
        self.fps = possible_fps(self._capture.get(cv2.CAP_PROP_FPS))
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
