"""Finds the lines that matter in tritonserver's log."""

import re
from pathlib import Path

ENTRY = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ \S+\] ?")
FAILED = re.compile(r"failed to load '(?P<model>[^']+)'[^:]*: (?P<reason>.*)", re.DOTALL)
REFUSED = re.compile(r"^(error|.*/tritonserver): ", re.IGNORECASE)  # of the command line
NOISE = re.compile(r"cuda|nvml|dcgm|gpu|exit timeout", re.IGNORECASE)
TRACEBACK = re.compile(r"\s*\n\s*At:\s*\n\s*(?P<place>[^\n]*).*", re.DOTALL)  # pybind11's form
MOST = 6  # lines of one message


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


def read_failed(path: Path | None, begin: int = 0) -> list[str]:
    """The message of each model that was not loaded since `begin`; none without a log."""
    text = path.read_bytes()[begin:].decode(errors="replace") if path and path.exists() else ""
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
