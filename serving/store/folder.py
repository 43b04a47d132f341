"""A model repository in a folder. What becomes visible is prepared beside it and renamed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from serving.errors import BusyError, MissingFileError, StoreError
from serving.store.base import (
    Store,
    describe_busy,
    describe_owner,
    is_in_repository,
)


class FolderStore(Store):
    """A repository in a folder of this machine. Beside it there must be room for new versions."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._root = Path(address).resolve()
        self.triton_address = str(self._root)

    def files(self, hidden: bool = False) -> dict[str, str]:
        """See Store; the stamp is the file's time and size."""
        found = {}
        with self._translate_errors():
            for path in self._root.rglob("*"):
                name = path.relative_to(self._root).as_posix()
                if is_in_repository(name, hidden) and (stamp := _read_stamp(path)):
                    found[name] = stamp
        return found

    def read(self, path: str) -> bytes:
        """See Store."""
        with self._translate_errors(path):
            return (self._root / path).read_bytes()

    def modified(self, path: str) -> datetime:
        """See Store."""
        with self._translate_errors(path):
            return datetime.fromtimestamp((self._root / path).stat().st_mtime, UTC)

    def write(self, path: str, data: bytes) -> None:
        """See Store."""
        with self._translate_errors(), self._beside() as folder:
            target = self._root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(folder / "file", data)
            (folder / "file").replace(target)
            _sync_to_disk(target.parent)

    def place(self, folder: str, files: Mapping[str, bytes]) -> None:
        """See Store."""
        target = self._root / folder
        with self._translate_errors(), self._beside() as beside:
            for name, data in files.items():
                path = beside / "new" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_durably(path, data)
            self._show(beside / "new", target)

    def create(self, source: Path) -> None:
        """See Store."""
        with self._translate_errors(), self._beside() as beside:
            shutil.copytree(source, beside / "new")
            for path in (beside / "new").rglob("*"):
                _sync_to_disk(path)
            self._show(beside / "new", self._root)

    def remove(self, folder: str) -> None:
        """See Store. It vanishes at once."""
        with self._translate_errors(), self._beside() as beside:
            if (self._root / folder).exists():
                (self._root / folder).rename(beside / "old")
                _sync_to_disk((self._root / folder).parent)

    def clean(self) -> None:
        """See Store."""
        with self._translate_errors():
            for left in self._root.parent.iterdir():
                name = left.name.removeprefix(self._prefix)
                if name != left.name and "-" not in name:  # else another repository's
                    shutil.rmtree(left)

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """See Store. The kernel ends it with the process, however that ends."""
        path = self._root.parent / f".{self._root.name}.lock"
        with self._translate_errors():
            file = self._claim(path)
            file.write(describe_owner(purpose))
            file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before the lock goes: `_claim` notices
            file.close()

    def _claim(self, path: Path) -> IO[bytes]:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_nlink:  # not the one that its owner just removed
                    file.truncate(0)
                    return file
            except BlockingIOError:
                file.seek(0)
                owner = file.read()
                file.close()
                raise BusyError(describe_busy(self.address, owner)) from None
            file.close()

    @property
    def _prefix(self) -> str:
        return f".publish-{self._root.name}-"

    @contextmanager
    def _beside(self) -> Iterator[Path]:
        """A temporary folder beside the repository: on its file system, unseen by Triton."""
        self._root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._root.parent, prefix=self._prefix) as folder:
            yield Path(folder)

    def _show(self, prepared: Path, target: Path) -> None:
        """Let a prepared folder appear under its name."""
        if target.exists():
            raise StoreError(f"{target} exists already")
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder in [prepared, *(path for path in prepared.rglob("*") if path.is_dir())]:
            _sync_to_disk(folder)
        prepared.rename(target)
        _sync_to_disk(target.parent)

    @contextmanager
    def _translate_errors(self, path: str = "") -> Iterator[None]:
        """Make sentences of the system's errors; `path` is what may be missing."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            if path:
                raise MissingFileError(f"{self.address} has no {path}") from None
            raise StoreError(f"{error.filename}: {error.strerror}") from None
        except shutil.Error as error:  # of `copytree`, a list
            _, file, reason = error.args[0][0]
            raise StoreError(f"{file}: {reason}") from None
        except OSError as error:
            raise StoreError(f"{error.filename or self.address}: {error.strerror}") from None


def _read_stamp(path: Path) -> str | None:
    """A file's time and size; None for a folder and for what has just been removed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return None if path.is_dir() else f"{status.st_mtime_ns} {status.st_size}"


def _write_durably(path: Path, data: bytes) -> None:
    """Write a file that survives a power cut."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_to_disk(path: Path) -> None:
    """Bring a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
