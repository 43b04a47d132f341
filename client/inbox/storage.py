"""Where the files of an inbox lie: a folder (`client.inbox.files`), or a bucket (`.objects`).

Paths are relative to the inbox. A file is there once it is whole.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

STALE = 3600  # seconds after which what is not whole is not being written any more


class Entry(NamedTuple):
    """A file: when it was written, in seconds since 1970; what changes when it does."""

    path: PurePosixPath
    modified: float
    stamp: str


class Storage(Protocol):
    """Files that threads, processes and machines share.

    Attributes:
        address: where it is, as the user wrote it.

    Every method raises OSError: of a bucket a BucketError, which is one.
    """

    address: str

    def make(self, folders: Sequence[PurePosixPath]) -> None:
        """Make the folders, and remove what a killed program left half in them."""

    def entries(self, folder: PurePosixPath, beginning: str = "") -> list[Entry]:
        """The files of a folder whose names begin so."""

    def find(self, path: PurePosixPath) -> bytes | None:
        """What is in a file; None where there is none."""

    def place(self, path: PurePosixPath, content: bytes) -> None:
        """Write or replace a file; once this returns it stays, and if it fails nothing changed."""

    def copy(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """Give a file a second name, of which nobody writes the first one again."""

    def remove(self, path: PurePosixPath) -> None:
        """Remove a file, if it is there."""

    def measure(self) -> int:
        """Bytes of all files together."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep out others that want the same, here and elsewhere."""
