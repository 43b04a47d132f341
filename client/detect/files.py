"""Which photos the command line reads, and the names of what it makes of them."""

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"}
)


def is_video(path: Path) -> bool:
    """Return whether the name is a video file's."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class Found(NamedTuple):
    """A folder's files by name."""

    images: list[Path]
    others: list[Path]  # passed over; hidden ones, which systems leave behind, are not told


def find_images(path: Path, *, leave_out: Collection[Path] = ()) -> list[Path]:
    """Return a folder's images, its subfolders' too, by name; or any other path as it is."""
    return look_through(path, leave_out=leave_out).images


def look_through(path: Path, *, leave_out: Collection[Path] = ()) -> Found:
    """Return a folder's files, its subfolders' too; any other path as an image, as it is.

    Args:
        path: need not exist: whoever reads it says what is wrong.
        leave_out: folders whose files do not count.
    """
    if not _is_folder(path):
        return Found([path], [])
    files: list[Path] = []
    without = {folder.resolve() for folder in leave_out}
    for place, folders, names in os.walk(path):
        if without:
            folders[:] = [name for name in folders if Path(place, name).resolve() not in without]
        files += (Path(place, name) for name in names)
    if path.resolve() in without:
        return Found([], [])
    images = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    others = {file for file in files if not file.name.startswith(".")}.difference(images)
    return Found(sorted(images), sorted(others))


class Names:
    """Gives out paths, none of them twice: one that is taken gets a number.

    Args:
        key: what two paths must not share.
        taken: keys that are not free.
    """

    def __init__(self, key: Callable[[Path], str], taken: Iterable[str] = ()) -> None:
        self._key = key
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}  # by the wanted key: thousands may want one name

    def free(self, wanted: Path) -> Path:
        """Return the path itself or, where it is taken, the same with a number."""
        path, wanted_key = wanted, self._key(wanted)
        number = self._numbers.get(wanted_key, 1)
        while self._key(path) in self._taken:
            number += 1
            path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        self._numbers[wanted_key] = number
        self._taken.add(self._key(path))
        return path


def targets(photos: Iterable[Path], folder: Path) -> list[Path]:
    """Return for each photo a path in the folder: its own name, numbered where that is taken.

    Taken are the photos themselves and the targets before it. A photo without a suffix of
    `SUFFIXES` gets `.png` on top; a video is named .webm beforehand.
    """
    photos = list(photos)
    names = Names(_file, map(_file, photos))
    return [names.free(folder / _named(photo)) for photo in photos]


def _named(photo: Path) -> str:
    known = photo.suffix.lower() in SUFFIXES | {".webm"}
    return photo.name if known else f"{photo.name}.png"


def _file(path: Path) -> str:
    """Return what all names of one file share: links, and capitals where they do not count."""
    return str(path.resolve()).casefold()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a folder that may not be entered
        return False
