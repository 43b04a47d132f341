"""The files of an inbox in a bucket, one object each.

One PUT is atomic, and what was answered is there for all to see. Writers need a store that honours
If-None-Match and If-Match with PUT, as Amazon's does: the lock is made of that.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath

from obstore.exceptions import AlreadyExistsError, PreconditionError

from client.bucket.address import Place
from client.bucket.bucket import Bucket
from client.errors import MissingObject
from client.inbox.storage import Entry
from client.inbox.turn import Turn


class Objects:
    """See `client.inbox.storage.Storage`."""

    def __init__(self, address: str, place: Place) -> None:
        self.address = address.rstrip("/")
        self._bucket = Bucket(self.address, place)
        self._turn = Turn(self._bucket)
        self._seen: dict[PurePosixPath, str | None] = {}  # tags of what was read in this turn

    def make(self, folders: Sequence[PurePosixPath]) -> None:
        """See Storage; a bucket has no folders, and nothing half in it."""

    def entries(self, folder: PurePosixPath, beginning: str = "") -> list[Entry]:
        """See Storage."""
        found = self._bucket.objects(str(folder), beginning)
        paths = ((PurePosixPath(one["path"]), one) for one in found)
        return [
            Entry(path, one["last_modified"].timestamp(), one["e_tag"] or f"{one['last_modified']}")
            for path, one in paths
            if path.parent == folder
        ]

    def find(self, path: PurePosixPath) -> bytes | None:
        """See Storage."""
        tag: str | None = None
        content: bytes | None = None
        with suppress(MissingObject):
            tag, content = self._bucket.get(str(path))
        if self._turn.is_mine():
            self._seen[path] = tag
        return content

    def place(self, path: PurePosixPath, content: bytes) -> None:
        """See Storage. What was read in this turn, and is another one since, is not replaced: then
        this program was stopped for so long that its turn is over.
        """
        self._turn.renew()
        if not (self._turn.is_mine() and path in self._seen):
            self._bucket.put(str(path), content)
            return
        tag = self._seen[path]
        try:
            mode = "create" if tag is None else {"e_tag": tag}
            self._seen[path] = self._bucket.put_new(str(path), content, mode)
        except (AlreadyExistsError, PreconditionError, MissingObject):
            raise self._turn.lost() from None

    def copy(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """See Storage."""
        self._turn.renew()
        self._bucket.copy(str(source), str(target))

    def remove(self, path: PurePosixPath) -> None:
        """See Storage."""
        self._turn.renew()
        with suppress(MissingObject):
            self._bucket.delete([str(path)])

    def measure(self) -> int:
        """See Storage."""
        return sum(one["size"] for one in self._bucket.objects())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See Storage."""
        with self._turn.hold():
            self._seen.clear()
            yield
