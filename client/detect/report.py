"""How the command line tells its results: a table for people, or one JSON document."""

import json
import textwrap
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from client.detection import Detection, Result
from client.errors import DetectorError

Write = Callable[[str], Any]


class Report(Protocol):
    """Is told of each photo in its turn, and of the end."""

    def found(self, photo: Path, result: Result) -> None:
        """Take note of a photo's result."""

    def failed(self, photo: Path, error: DetectorError) -> None:
        """Take note of a photo without one."""

    def close(self) -> None:
        """Write what is left to write."""


class Table:
    """One line per detection as it comes, the counts at the end."""

    def __init__(self, photos: Sequence[Path], write: Write) -> None:
        self._write = write
        self._width = max([len("file"), *(len(str(photo)) for photo in photos)])
        self._photos = 0
        self._counts: Counter[str] = Counter()
        columns = "".join(f"{name:>8}" for name in ("x1", "y1", "x2", "y2"))
        self._head: str | None = f"{'file':<{self._width}}  {'label':<12}  {'score':>5}{columns}"

    def found(self, photo: Path, result: Result) -> None:
        """Write the photo's lines, or one that says that there are none."""
        self._photos += 1
        self._counts.update(result.counts())
        if self._head:
            self._write(self._head)
            self._head = None
        for detection in result.detections:
            self._write(self._line(photo, detection))
        if not result.detections:
            self._write(f"{photo!s:<{self._width}}  (nothing found)")

    def failed(self, photo: Path, error: DetectorError) -> None:
        """Leave it to the error stream."""

    def close(self) -> None:
        """Write how many of what were found in all."""
        if self._photos:
            self._write(f"\n{_number(self._photos, 'photo')}: {_counted(self._counts)}")

    def _line(self, photo: Path, detection: Detection) -> str:
        box = detection.box
        corners = "".join(f"{value:8.1f}" for value in (box.x1, box.y1, box.x2, box.y2))
        return f"{photo!s:<{self._width}}  {detection.label:<12}  {detection.score:5.2f}{corners}"


class Entries(ABC):
    """A report of one object per photo: "file", and the result's fields or "error"."""

    def found(self, photo: Path, result: Result) -> None:
        """Write the result."""
        self._add({"file": str(photo), **result.to_dict()})

    def failed(self, photo: Path, error: DetectorError) -> None:
        """Write the reason."""
        self._add({"file": str(photo), "error": str(error)})

    @abstractmethod
    def _add(self, entry: dict[str, Any]) -> None:
        """Write an entry."""


class Json(Entries):
    """A list of the entries."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._last: str | None = None  # its comma depends on whether another one follows

    def close(self) -> None:
        """Write the end of the document."""
        self._write("[]" if self._last is None else f"{self._last}\n]")

    def _add(self, entry: dict[str, Any]) -> None:
        self._write("[" if self._last is None else f"{self._last},")
        self._last = textwrap.indent(json.dumps(entry, indent=2), "  ")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _counted(counts: Counter[str]) -> str:
    parts = ", ".join(f"{count} {label}" for label, count in counts.most_common())
    total = _number(counts.total(), "detection")
    return f"{total} ({parts})" if parts else total
