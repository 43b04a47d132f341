"""Photos that no training may see: a frozen test set, known again by what is to be seen in it.

In: `--frozen`, photos, folders of photos (their annotations are not looked at) and COCO JSON files,
as `training coco` writes them and `serving publish --evaluation` takes them.

Out: the images of train, val and whatever else is no `test` without those that resemble one of
them, each with a problem that names both. `resemblance` says what resembles: the same photo saved
anew, resized, turned upright or cut by up to 5% at each edge; not mirrored, and not cut more.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from training.data import decoding, resemblance
from training.data.annotations import Item
from training.data.files import IMAGE_SUFFIXES, files_below
from training.data.problems import BadImageError, DataError, Problem

OWN_SPLIT = "test"  # which training does not read, and whose photos the frozen ones may well be


class Frozen:
    """The photos, each as it looks in whole and cut.

    Raises:
        DataError: a path names no photos, or one of them cannot be read.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._photos = list(dict.fromkeys(photo for path in paths for photo in _find_photos(path)))
        bar = tqdm(self._photos, desc="reading frozen", unit="image", leave=False, disable=None)
        self._looks = [look for photo in bar for look in _look_at(photo)]
        self._digests = {_digest(photo): photo for photo in self._photos}

    def __len__(self) -> int:
        return len(self._photos)

    def find_copies(self, items: Sequence[Item]) -> list[Path | None]:
        """For each image the photo that it is a copy of, if any; None for one without a file."""
        looks = [item.info.look if item.info else b"" for item in items]
        nearest = resemblance.most_alike(looks, self._looks, resemblance.SAME)
        return [
            self._photos[place // resemblance.CUTS] if place is not None else self._find_twin(item)
            for item, place in zip(items, nearest, strict=True)
        ]

    def _find_twin(self, item: Item) -> Path | None:
        """The same file's content, for a flat picture looks like none."""
        return (
            self._digests.get(_digest(item.image_path)) if item.info and item.image_path else None
        )

    def leave_out_copies(self, items: list[Item], split: str) -> list[Item]:
        """The images of a split, those left out that are copies."""
        if not self._photos or split == OWN_SPLIT:
            return items
        copies = zip(items, self.find_copies(items), strict=True)
        return [_left_out(item, photo) if photo else item for item, photo in copies]


def _find_photos(path: Path) -> list[Path]:
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return [path]
    photos = files_below(path, IMAGE_SUFFIXES) if path.is_dir() else _list_coco(path)
    if not photos:
        raise DataError(f"--frozen {path}: no photos in there")
    return photos


def _list_coco(path: Path) -> list[Path]:
    """The photos of a COCO JSON file, from its folder on."""
    try:
        rows = json.loads(path.read_bytes())["images"]
        return [path.parent / row["file_name"] for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"--frozen {path}: expected a folder of photos, or a COCO JSON file as `training coco` "
            f"writes it: {type(error).__name__}: {error}"
        ) from None


def _look_at(photo: Path) -> list[bytes]:
    try:
        return resemblance.look_at_cuts(decoding.read_image(photo)[1])
    except BadImageError as error:
        raise DataError(f"--frozen: {photo} {error}: nothing is known again by it") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _left_out(item: Item, photo: Path) -> Item:
    message = f"the same picture as {photo}, which is frozen"
    problem = Problem(item.file, None, "frozen", message, "image")
    return dataclasses.replace(item, info=None, objects=(), problems=(*item.problems, problem))
