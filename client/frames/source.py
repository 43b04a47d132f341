"""What a video file and a camera have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

USUAL_FPS = 30.0  # where a source tells no rate, or one that cannot be


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


def possible_fps(fps: float) -> float:
    """The rate that a source tells, or the usual one where that cannot be."""
    return fps if 1 <= fps <= 240 else USUAL_FPS
