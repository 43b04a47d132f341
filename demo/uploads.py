"""What the page keeps for a while, and how much of it: uploads, and what is made of them.

All of it lies in Gradio's folder, an entry for each upload, for the copies of a photo and for a
video that was made. Gradio removes what is an hour old. When room is needed earlier, what was
touched longest ago makes way. There is one page a process, and so one folder and one limit.
"""

import contextlib
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

from gradio.utils import get_upload_folder

from client import InvalidImage

MEGABYTE = 2**20
FRESH = 300  # seconds; what was touched later is in use
SMALLEST = 2**16  # bytes that an entry counts at least: a million empty files take memory as well

limit = 1000 * MEGABYTE  # bytes, app.py sets it
_one_at_a_time = threading.Lock()


class NoRoom(InvalidImage):
    """Everything that could make way is in use."""


class Entry(NamedTuple):
    """What stands at the top of the folder: a folder with a file or two, or a half upload."""

    touched: float  # seconds since the epoch
    size: int  # bytes
    path: Path


def make_way(size: int) -> None:
    """Remove the oldest entries until this many bytes more have room.

    Raises:
        NoRoom: it is too much, or what is there is in use.
    """
    with _one_at_a_time:
        entries = sorted(_entries())
        excess = sum(entry.size for entry in entries) + size - limit
        old = [entry for entry in entries if entry.touched < time.time() - FRESH]
        if excess > sum(entry.size for entry in old):
            raise NoRoom(
                f"This page keeps {limit // MEGABYTE} MB of photos and videos at a time, and there "
                "is no room for this now. Try again in some minutes, or with less at once."
            )
        for entry in old:
            if excess <= 0:
                break
            _remove(entry.path)
            excess -= entry.size


def touch(path: Path) -> None:
    """Tell that a file is in use; others than uploads stay as they are."""
    if path.is_relative_to(get_upload_folder()):
        os.utime(path)


def _entries() -> list[Entry]:
    folder = Path(get_upload_folder())
    return [_entry(path) for path in folder.iterdir()] if folder.is_dir() else []


def _entry(path: Path) -> Entry:
    touched, size = 0.0, 0
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        for part in (path, *(path.iterdir() if path.is_dir() else ())):
            status = part.stat()
            touched = max(touched, status.st_mtime)
            size += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return Entry(touched, max(size, SMALLEST), path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
