"""The lines that a server reports: text for people, or JSON for programs.

A line of JSON has

    time      in UTC, with milliseconds
    level     info; warning: something is wrong and is being mended; error: a person is needed
    message   the line
    server    its number, in a fleet
    version   the live version of each ensemble at the last probe
    trace     id of the probe's inference that the line comes from, empty for other lines
"""

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]


class Line(str):
    """A line for people, and what else stands in it as JSON.

    Args:
        text: for people; what else is known of a Line is kept.
        facts: what is to be added or replaced, by the names above.
    """

    facts: dict[str, Any]

    def __new__(cls, text: str, **facts: Any) -> "Line":
        line = super().__new__(cls, text)
        line.facts = getattr(text, "facts", {}) | facts
        return line

    def to_json(self) -> str:
        """The line for programs."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        known = {"time": now, "level": "info", "message": str(self), "version": {}, "trace": ""}
        return json.dumps(known | self.facts, ensure_ascii=False)


def warning(text: str) -> Line:
    """A line that tells of something wrong that is being mended."""
    return Line(text, level="warning")


def error(text: str) -> Line:
    """A line that tells of something that a person should see to."""
    return Line(text, level="error")


def write_line(line: str, log_format: LogFormat = "text", file: TextIO | None = None) -> None:
    """One line to the terminal, at once; a disk that is full or a reader that left ends nothing."""
    with suppress(OSError):
        told = Line(line).to_json() if log_format == "json" else line
        print(told, file=file or sys.stdout, flush=True)
