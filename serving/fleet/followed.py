"""Text files that people edit while the gateway runs."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving import lines
from serving.errors import PrerequisiteError, ServingError

COMMENT = re.compile(r"(^|\s)#.*")


def read_text(file: Path) -> str:
    """The text of a file.

    Raises:
        PrerequisiteError: it cannot be read, or is no text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PrerequisiteError(f"{file} cannot be read: {why}") from None


def read_words(file: Path) -> list[tuple[str, list[str]]]:
    """Where each line stands and its words, without comments and empty lines.

    Raises:
        PrerequisiteError: the file cannot be read.
    """
    lines = enumerate(read_text(file).splitlines(), 1)
    told = [(f"{file}, line {number}", COMMENT.sub("", line).split()) for number, line in lines]
    return [(where, words) for where, words in told if words]


class FollowedFiles:
    """Files that may change: what they say is taken anew, and what is wrong changes nothing.

    Args:
        files: those that belong together, such as a certificate and its key.
        read: returns what they say; raises ServingError where they make no sense.
        take: makes it hold.
    """

    def __init__(
        self, files: Sequence[Path], read: Callable[[], Any], take: Callable[[Any], None]
    ) -> None:
        self._files, self._read, self._take = files, read, take
        self._seen: list[bytes] = []
        self._judged: list[bytes] = []

    def begin(self) -> None:
        """Take what they say.

        Raises:
            ServingError: they make no sense.
        """
        self._seen = self._judged = self._contents()
        self._take(self._read())

    def look(self) -> str:
        """Take what has changed since the last look but one. Returns what is to be told of it.

        What changed since the last look may be half written.
        """
        before, self._seen = self._seen, self._contents()
        if self._seen != before or self._seen == self._judged:
            return ""
        self._judged = self._seen
        try:
            self._take(self._read())
        except ServingError as error:
            return lines.error(f"{error}; what held before still holds")
        return f"{', '.join(map(str, self._files))} changed, and is taken"

    def _contents(self) -> list[bytes]:
        return [_read_bytes(file) for file in self._files]


def _read_bytes(file: Path) -> bytes:
    """What a file holds; nothing where it cannot be read, which `read` says in words."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
