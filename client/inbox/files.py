"""Files that are whole once they have their names, in folders that several processes write."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
