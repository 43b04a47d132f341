"""Files that are whole once they have their names, in folders that several processes write."""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

from client.inbox.storage import STALE, Entry


class Folder:
    """See `client.inbox.storage.Storage`."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder)
        self._folder = folder

    def make(self, folders: Sequence[PurePosixPath]) -> None:
        """See Storage."""
        for folder in folders:
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
            for path in (self._folder / folder).glob("*.partial"):
                if _read_status(path).st_mtime < time.time() - STALE:
                    path.unlink(missing_ok=True)

    def entries(self, folder: PurePosixPath, beginning: str = "") -> list[Entry]:
        """See Storage."""
        try:
            names = [path.name for path in (self._folder / folder).iterdir()]
        except FileNotFoundError:
            return []
        paths = (folder / name for name in names if name.startswith(beginning))
        known = ((path, _read_status(self._folder / path)) for path in paths)
        return [Entry(path, said.st_mtime, str(said.st_mtime_ns)) for path, said in known]

    def find(self, path: PurePosixPath) -> bytes | None:
        """See Storage."""
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def place(self, path: PurePosixPath, content: bytes) -> None:
        """See Storage."""
        place_file(self._folder / path, content)

    def copy(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """See Storage."""
        link_file(self._folder / source, self._folder / target)

    def remove(self, path: PurePosixPath) -> None:
        """See Storage."""
        (self._folder / path).unlink(missing_ok=True)

    def measure(self) -> int:
        """See Storage; what has two names counts once."""
        found = (_read_status(path) for path in self._folder.rglob("*.*"))
        return sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values())

    def lock(self) -> AbstractContextManager[None]:
        """See Storage."""
        return lock_file(self._folder / ".lock")


def place_file(path: Path, content: bytes) -> None:
    """Write or replace a file; once this returns, a power cut leaves it as it is.

    Raises:
        OSError: it cannot be written; what had the name keeps it.
    """
    with _written_beside(path, content) as partial:
        partial.replace(path)
    _sync_folder(path.parent)


def create_file(path: Path, content: bytes) -> None:
    """The same where nothing has the name; what has it keeps it.

    Raises:
        OSError: it cannot be written.
    """
    with _written_beside(path, content) as partial:
        try:
            os.link(partial, path)  # unlike a rename, this replaces nothing
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            partial.replace(path)
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system has no second names."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        place_file(target, source.read_bytes())
        return
    _sync_folder(target.parent)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Keep out other threads and processes that want the same."""
    with path.open("a") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel frees it when the file is closed
        yield


@contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    """A file of another name in the same folder, down to the disk, until it gets its own name."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        yield partial
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Write down the folder's names, too."""
    if os.name == "nt":  # which opens no folders
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _read_status(path: Path) -> os.stat_result:
    """The file's; of one that another process has just given its name, or removed, zeros."""
    try:
        return path.stat()
    except FileNotFoundError:
        return os.stat_result((0,) * 10)
