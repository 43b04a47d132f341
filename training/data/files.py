"""Finds and reads the files of an annotated folder; links out of it are not followed."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from training.data.problems import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Pictures that are not read. They are looked for to be named, for whoever has them counts on them.
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".dng", ".psd")
LIST_LIMIT = 64 * 2**20  # bytes of a text file that lists images
ALL = "all"  # the one split of a folder that names none
# Words that name a split in the names of files and folders, such as instances_val2017.json.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",
}


def split_name(name: str, otherwise: str) -> str:
    """train, val, test or trainval, where a word of a name says so: `valid`, `train2017`."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else otherwise


def is_file(path: Path) -> bool:
    """Whether there is such a file, for names too that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_file(name: str, roots: Iterable[Path], ends: bool = False) -> Path | None:
    """Where a path with `/` leads from one of the folders, or with `ends` the longest end of it."""
    parts = PurePosixPath(name.lstrip("/") if ends else name).parts
    names = ["/".join(parts[at:]) for at in range(len(parts) if ends else 1)]
    if ".." in parts or name.startswith("/") > ends:
        return None
    paths = (root / each for each in names for root in roots)
    return next((path for path in paths if is_file(path)), None)


def by_split(directory: Path, paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Files of annotations by the split that their name tells, or their folder's."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        names = (split_name(part, "") for part in path.relative_to(directory).parts[::-1])
        split = next(filter(None, names), ALL if len(paths) == 1 else path.stem)
        found.setdefault(split, []).append(path)
    return found


def files_below(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """Files in a folder and its folders, in a fixed order, without hidden ones.

    suffixes: in lower case; none given: all.

    A folder in it may be a link; deeper ones are not followed, for they may lead round in circles.
    """
    tops = [folder, *(path for path in folder.iterdir() if path.is_symlink() and path.is_dir())]
    found = []
    for top in tops:
        for place, folders, files in os.walk(top):
            folders[:] = [name for name in folders if not _is_hidden(name)]
            found += [Path(place) / name for name in files if not _is_hidden(name)]
    wanted = (path for path in found if not suffixes or path.suffix.lower() in suffixes)
    return sorted(path for path in wanted if is_file(path))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def read_bytes(path: Path, limit: int) -> bytes:
    """A file's content; DataError where it is larger than the limit, OSError where unreadable."""
    size = path.stat().st_size
    if size > limit:
        raise DataError(f"the file has {size} bytes, the limit is {limit}")
    return path.read_bytes()


def read_lines(path: Path, limit: int = LIST_LIMIT) -> list[str]:
    """A text file's lines; DataError where it is too large, not UTF-8 or not readable."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"not readable as UTF-8 text: {error}") from error
