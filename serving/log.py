"""Finds the lines that matter in tritonserver's log."""

import re
from pathlib import Path

ENTRY = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ \S+\] ?")
FAILED = re.compile(r"failed to load '(?P<model>[^']+)'[^:]*: (?P<reason>.*)", re.DOTALL)
REFUSED = re.compile(r"^(error|.*/tritonserver): ", re.IGNORECASE)  # of the command line
NOISE = re.compile(r"cuda|nvml|dcgm|gpu|exit timeout", re.IGNORECASE)
TRACEBACK = re.compile(r"\s*\n\s*At:\s*\n\s*(?P<place>[^\n]*).*", re.DOTALL)  # pybind11's form
MOST = 6  # lines of one message


def read_failure(path: Path) -> str:
    """Why the server ended: each failed model's message, else its errors, else its last line."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return "it left no log"
    errors = [message for level, message in entries(text) if level in "EF"]
    failed = [match for message in errors if (match := FAILED.search(message))]
    if failed:
        return "\n".join(sorted({f"model {m['model']}: {shorten(m['reason'])}" for m in failed}))
    told = [shorten(message) for message in errors if not NOISE.search(message)]
    return "\n".join(told) or text.strip().rsplit("\n", 1)[-1] or "it printed nothing"


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


def shorten(message: str) -> str:
    """A message's first lines, of a Python traceback only where it happened."""
    message = TRACEBACK.sub(r" (\g<place>)", message)
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    return "\n".join(lines[:MOST])
