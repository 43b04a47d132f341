"""Finds the lines that matter in tritonserver's log."""

import os
import re
from pathlib import Path
from typing import IO

ENTRY = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ \S+\] ?")
FAILED = re.compile(r"failed to load '(?P<model>[^']+)'[^:]*: (?P<reason>.*)", re.DOTALL)
REFUSED = re.compile(r"^(error|.*/tritonserver): ", re.IGNORECASE)  # of the command line
NOISE = re.compile(r"cuda|nvml|dcgm|gpu|exit timeout", re.IGNORECASE)
TRACEBACK = re.compile(r"\s*\n\s*At:\s*\n\s*(?P<place>[^\n]*).*", re.DOTALL)  # pybind11's form
MOST = 6  # lines of one message
LIMIT = 2**24  # bytes, beyond which a new start begins the log anew


class TritonLog:
    """The log of one tritonserver after the other, once it is opened; else nothing is known."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._begin = 0  # of the last start's part
        self._read = 0  # up to where `failed_lately` has looked

    def open_part(self, path: Path) -> IO[bytes]:
        """Begin the part of a new start."""
        self._path, file = path, path.open("ab")
        if file.tell() > LIMIT:
            file.truncate(0)
        self._begin = self._read = file.seek(0, os.SEEK_END)
        return file

    def explain(self) -> str:
        """Why the server of the last start ended."""
        return read_failure(self._path, self._begin) if self._path else "see its log"

    def failed(self) -> list[str]:
        """The message of each model that was not loaded since the last start."""
        return read_failed(self._path, self._begin)

    def failed_lately(self) -> list[str]:
        """The same, since this was asked last."""
        if not self._path or not self._path.exists():
            return []
        begin, self._read = self._read, self._path.stat().st_size
        return read_failed(self._path, begin, self._read)


def read_failure(path: Path, begin: int = 0) -> str:
    """Why the server ended: each failed model's message, else its errors, else its last line.

    Args:
        begin: the byte at which this server's part of the log begins.
    """
    try:
        text = path.read_bytes()[begin:].decode(errors="replace")
    except OSError:
        return "it left no log"
    if failed := read_failed(path, begin):
        return "\n".join(failed)
    told = [_shorten(message) for message in errors(text) if not NOISE.search(message)]
    return "\n".join(told) or _last_words(text) or "it printed nothing"


def read_failed(path: Path | None, begin: int = 0, end: int | None = None) -> list[str]:
    """The message of each model that was not loaded between two bytes; none without a log."""
    if not path or not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(begin)
        text = file.read(-1 if end is None else max(0, end - begin)).decode(errors="replace")
    failed = [match for message in errors(text) if (match := FAILED.search(message))]
    return sorted({f"model {match['model']}: {_shorten(match['reason'])}" for match in failed})


def errors(text: str) -> list[str]:
    """The errors' messages."""
    return [message for level, message in entries(text) if level in "EF"]


def _last_words(text: str) -> str:
    """The last line; if there are any, of those that no logger wrote but a dying process."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    unusual = [line for line in lines if not ENTRY.match(line) and line[0] not in "+|"]
    return next(reversed(unusual or lines), "")


def entries(text: str) -> list[tuple[str, str]]:
    """(level, message) of each entry; what refuses the command line counts as an error."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if start := ENTRY.match(line):
            message = line[start.end() :].strip('"').replace("\\n", "\n").replace('\\"', '"')
            found.append((line[0], message))
        elif start := REFUSED.match(line):
            found.append(("E", line[start.end() :]))
    return found


def _shorten(message: str) -> str:
    """A message's first lines, of a Python traceback only where it happened."""
    message = TRACEBACK.sub(r" (\g<place>)", message)
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    return "\n".join(lines[:MOST])
