"""What tritonserver is given as its repository: always something of this machine's.

A folder is reached by a link of ours: a shell would take a name with a space apart, and a stub
cannot read one with an umlaut. An object store is reached by a gateway. Behind both stands a copy
of what was there last, so that a process that dies while the repository is away can be replaced:
the link then points to the copy, the gateway reads it always. It lies in the server's temporary
folder and takes as much room as the repository.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from serving.store.base import Store
from serving.store.folder import FolderStore
from serving.store.mirror import Mirror
from serving.store.s3_gateway import S3Gateway

SECONDS = 5.0  # between two checks of a folder
STORE_SECONDS = 30.0  # between two of an object store, which cost money
PATIENCE = 60.0  # seconds that one may take; the requests to a store have limits of their own


class Source(ABC):
    """A repository as tritonserver reads it, from `open` to `close`."""

    address = ""  # for tritonserver's --model-repository, after `open`
    _mirror: Mirror

    @abstractmethod
    def files(self) -> Mapping[str, str]:
        """The stamp of each file that tritonserver finds there now, hidden ones included."""

    @property
    def away(self) -> bool:
        """Whether the repository could not be read when it was looked at last."""
        return self._mirror.away

    def prepare(self) -> None:
        """Look whether the repository is there, and what it holds: something will be loaded."""
        self._mirror.refresh()

    def hurry(self) -> AbstractContextManager[None]:
        """Inside, a repository that does not answer soon is left: what is here is loaded again."""
        return self._mirror.hurry()

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The variables that tritonserver needs to read it."""
        return dict(inherited)

    @abstractmethod
    def close(self) -> None:
        """Be read no more."""


class FolderSource(Source):
    """A link to the folder, or to the copy.

    Raises:
        OSError: there is no room.
    """

    def __init__(self, store: FolderStore, place: Path, report: Callable[[str], None]) -> None:
        self._store = store
        self._mirror = Mirror(store, place / "mirror", report, PATIENCE, SECONDS, self._point)
        self._link = place / "models"
        self.address = str(self._link)
        self._point()
        self._mirror.start()

    def _point(self) -> None:
        """Let the link point to what is there."""
        target = self._mirror.folder if self._mirror.away else Path(self._store.triton_address)
        new = self._link.with_name("models-new")
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(self._link)

    def files(self) -> Mapping[str, str]:
        """See Source."""
        return self._mirror.files if self._mirror.away else self._store.files(hidden=True)

    def close(self) -> None:
        """See Source."""
        self._mirror.close()


class ObjectSource(Source):
    """A gateway to the copy.

    Raises:
        StoreError: the store is away, and nothing is known of it yet.
    """

    def __init__(self, store: Store, place: Path, report: Callable[[str], None]) -> None:
        self._mirror = Mirror(store, place / "mirror", report, seconds=STORE_SECONDS)
        self._mirror.update()
        self._gateway = S3Gateway(self._mirror)
        self.address = self._gateway.address
        self._mirror.start()

    def files(self) -> Mapping[str, str]:
        """See Source."""
        return self._mirror.files

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """See Source."""
        return self._gateway.environment(inherited)

    def close(self) -> None:
        """See Source."""
        self._mirror.close()
        self._gateway.close()


def open_source(store: Store, place: Path, report: Callable[[str], None]) -> Source:
    """The source for a store.

    Args:
        store: the repository.
        place: the server's temporary folder.
        report: takes a line when the repository goes away, and when it is back.
    """
    if isinstance(store, FolderStore):
        return FolderSource(store, place, report)
    return ObjectSource(store, place, report)
