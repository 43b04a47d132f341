"""Which photos the command line reads, and where it saves the drawn ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def find(path: Path, *, leave_out: Path | None = None) -> list[Path]:
    """Return a folder's images, its subfolders' too, by name; or any other path as it is.

    Args:
        path: need not exist: whoever reads it says what is wrong.
        leave_out: a folder whose images do not count.
    """
    if not _is_folder(path):
        return [path]
    found = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    return sorted(file for file in found if file.is_file() and not _is_in(file, leave_out))


def targets(photos: Iterable[Path], folder: Path) -> list[Path]:
    """Return for each photo a path in the folder: its own name, numbered where that is taken.

    Taken are the photos themselves and the targets before it. A photo without a suffix of
    `SUFFIXES` gets `.png` on top.
    """
    photos = list(photos)
    taken = {_key(photo) for photo in photos}
    return [_free(folder / _named(photo), taken) for photo in photos]


def _named(photo: Path) -> str:
    return photo.name if photo.suffix.lower() in SUFFIXES else f"{photo.name}.png"


def _free(wanted: Path, taken: set[str]) -> Path:
    path, number = wanted, 1
    while _key(path) in taken:
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    taken.add(_key(path))
    return path


def _key(path: Path) -> str:
    """Return what all names of one file share: links, and capitals where they do not count."""
    return str(path.resolve()).casefold()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def _is_in(file: Path, folder: Path | None) -> bool:
    return folder is not None and folder.resolve() in file.resolve().parents
