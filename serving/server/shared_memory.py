"""Keeps /dev/shm clean, also after processes that were killed.

Every server has a prefix of its own for the shared memory of its Python models, and holds a lock
on a file that bears the prefix. The kernel drops the lock when the process ends, however it ends;
so a prefix whose lock is free belongs to a dead server, and its files may go. The server's
temporary folder bears the same prefix and goes with them.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path("/dev/shm")
NAME = "ssd-on-triton-"
LOCK = "lock"
# What Triton may put on a stub's command line, which a shell reads; a stub's own Python, in the C
# locale always, reads ASCII only.
PLAIN = re.compile(r"[A-Za-z0-9_./+@,=-]+", re.ASCII)


class Region:
    """One server's shared memory and temporary folder, from `claim` to `release`."""

    def __init__(self, shared: Path = FOLDER) -> None:
        self.prefix = f"{NAME}{secrets.token_hex(4)}-"
        self.folder = Path()  # temporary files, after `claim`
        self._shared = shared
        self._lock_file = shared / f"{self.prefix}{LOCK}"
        self._lock: int | None = None

    def claim(self) -> None:
        """Lock the file that marks this prefix as alive, and make the temporary folder."""
        self._lock = os.open(self._lock_file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = Path(tempfile.mkdtemp(prefix=self.prefix, dir=_temporary_folder()))

    def clear(self, names: Iterable[str] | None = None) -> None:
        """Remove shared memory that no process uses any more: the named files, else all."""
        every = self._shared.glob(f"{self.prefix}*")
        keep = {self._lock_file.name}
        _remove_files(p for p in every if p.name not in keep and (names is None or p.name in names))

    def release(self) -> None:
        """Remove everything of this prefix, the lock last."""
        if self._lock is None:
            return
        self.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_file.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None


def _temporary_folder() -> Path:
    """Where temporary folders are made: the usual place if a stub's command line can name it."""
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    fitting = (place for place in places if PLAIN.fullmatch(place) and os.access(place, os.W_OK))
    return Path(next(fitting, FOLDER))


def remove_leftovers(shared: Path = FOLDER) -> list[str]:
    """Remove the files and folders of servers that are dead. Returns their prefixes."""
    dead = [lock for lock in shared.glob(f"{NAME}*-{LOCK}") if _is_free(lock)]
    prefixes = [lock.name.removesuffix(LOCK) for lock in dead]
    for prefix in prefixes:
        for folder in _temporary_folder().glob(f"{prefix}*"):
            shutil.rmtree(folder, ignore_errors=True)
        _remove_files(shared.glob(f"{prefix}*"))
    return prefixes


def _is_free(lock: Path) -> bool:
    """Whether no living process holds the lock. A file of another user counts as held."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove_files(paths: Iterable[Path]) -> None:
    """Delete files that another process may be deleting as well."""
    for path in list(paths):
        path.unlink(missing_ok=True)
