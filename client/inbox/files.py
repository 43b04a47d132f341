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
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
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


def _sync_folder(folder: Path) -> None:
    """Write down the folder's names, too."""
    if os.name == "nt":  # which opens no folders
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
