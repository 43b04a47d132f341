"""An annotated folder, whatever its format: what a reader gives, and the checks all of them pass.

A reader (voc.py, coco.py, ...) is an `AnnotatedFolder` that names its splits, lists what a split
names (`Entry`) and tells what an annotation says (`Content`). The rest is here: every image is
decoded once to know that it decodes, claimed sizes are compared with real ones and boxes are fitted
into their image.

An image of which an object cannot be used is left out: what lies there without a box would be
learned as background. What is no object does not count: a click without extent, and classes that
the labels given do not name.

Folders come from anywhere, so no file outside of them is opened, not even through a link.
"""

import abc
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from tqdm import tqdm

from training.data import decoding
from training.data.annotations import Content, Dataset, Entry, Item, make_dataset
from training.data.decoding import ImageInfo
from training.data.files import IMAGE_SUFFIXES, UNREAD_SUFFIXES, by_split
from training.data.formats.fitting import Resized, compare_size, fit_boxes, is_fatal, scale_boxes
from training.data.problems import BadImageError, BadSplitError, DataError, Kind, Problem, brief


class AnnotatedFolder(abc.ABC):
    """An annotated folder whose images are decoded once, however many splits name them.

    resized: whether images of another size than their annotation says were resized after it was
        made, so that boxes are scaled, or not, so that boxes count as they are; "unknown" leaves
        such images out.
    """

    format: ClassVar[str]
    resized: Resized = "unknown"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._root = Path(os.path.realpath(directory))
        self._items: dict[Entry, Item] = {}

    @abc.abstractmethod
    def splits(self) -> list[str]:
        """Names of the splits; [ALL] where the folder names none."""

    @abc.abstractmethod
    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        """The images that a split names, each once, and what is wrong with the list itself.

        Raises:
            BadSplitError: the split is missing, empty or not readable.
        """

    @abc.abstractmethod
    def content(self, entry: Entry, info: ImageInfo) -> Content:
        """What the annotation of an image says."""

    def strays(self) -> list[Problem]:
        """Annotations that belong to no image of any split."""
        return []

    def require_split(self, split: str) -> None:
        """BadSplitError where no file is of this split."""
        if split not in self.splits():
            message = f"no file of a split {split}; splits here: {', '.join(self.splits())}"
            raise BadSplitError(self.directory, ".", message)

    def read(self, split: str, labels: Sequence[str] | None = None) -> Dataset:
        """A split, with every image decoded once to know that it decodes.

        labels: the classes wanted, in the order of their ids; None takes those found in the split,
            the most frequent first, ties by name.

        Raises:
            BadSplitError: as `entries`.
            DataError: there cannot be such labels.
        """
        entries, problems = self.entries(split)
        items = self.items(entries, split)
        return make_dataset(str(self.directory), split, items, problems, labels)

    def items(self, entries: Iterable[Entry], split: str) -> list[Item]:
        """Read and check these images; `split` names them on the progress bar."""
        bar = tqdm(entries, desc=f"reading {split}", unit="image", leave=False, disable=None)
        return [self._item(entry) for entry in bar]

    def _item(self, entry: Entry) -> Item:
        if entry not in self._items:
            self._items[entry] = self._read(entry)
        return self._items[entry]

    def _read(self, entry: Entry) -> Item:
        if entry.image_path is None:
            return _left_out(entry, entry.problems)
        try:
            info = decoding.inspect_image(entry.image_path)
        except BadImageError as error:
            file = self.relative(entry.image_path)
            return _left_out(entry, [Problem(file, None, "bad image", str(error), "image")])
        content = self.content(entry, info)
        if self.resized == "yes":
            content = scale_boxes(content, info)
        problems = [*content.problems, *compare_size(content, entry.file, info, self.resized)]
        if is_fatal(problems):
            return _left_out(entry, problems)
        objects, box_problems = fit_boxes(content.objects, entry.file, info)
        problems += box_problems
        if is_fatal(problems):
            return _left_out(entry, problems)
        return Item(
            entry.image_id, entry.file, entry.image_path, info, tuple(objects), tuple(problems)
        )

    def relative(self, path: Path) -> str:
        """A path as messages name it: from the folder on."""
        return path.relative_to(self.directory).as_posix()

    def within(self, path: Path) -> bool:
        """Whether a path lies in the folder once links are followed."""
        return Path(os.path.realpath(path)).is_relative_to(self._root)

    def not_read(self, folder: Path) -> list[Problem]:
        """The pictures below a folder that are in none of the formats, by their names."""
        message = f"not read; save it as JPEG or PNG (read are {', '.join(IMAGE_SUFFIXES)})"
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in UNREAD_SUFFIXES)
        return [Problem(self.relative(p), None, "bad image", message, "image") for p in paths]

    def entry(self, image_id: str, file: str, image_path: Path) -> Entry:
        """An entry of an image that is there, if its id and both its places are acceptable."""
        if problem := bad_id(image_id):
            return Entry(image_id, file, None, (problem,))
        for path in (image_path, self.directory / file):
            if not self.within(path):
                message = "a link that leaves the folder; put a copy of the file in its place"
                name = self.relative(path)
                return left_out(image_id, file, name, "outside the folder", message)
        return Entry(image_id, file, image_path)


class FolderOfFiles(AnnotatedFolder):
    """One whose annotations lie in files that each belong to a split, by their name or folder's.

    what: the files, in words.
    """

    what: ClassVar[str]

    def __init__(self, directory: Path, paths: Sequence[Path], layout: str) -> None:
        super().__init__(directory)
        if not paths:
            raise DataError(f"{directory}: no {self.what}; expected {layout}")
        self._paths = by_split(directory, paths)

    def splits(self) -> list[str]:
        return list(self._paths)


def left_out(image_id: str, file: str, where: str, kind: Kind, message: str) -> Entry:
    """An entry that cannot be used because of what is wrong at `where`."""
    return Entry(image_id, file, None, (Problem(where, None, kind, message, "image"),))


def bad_id(image_id: str) -> Problem | None:
    """What is wrong with an image id, which becomes the name of files."""
    if image_id and image_id.isprintable() and not {"/", "\\"} & set(image_id):
        return None
    message = "an image id is a file's name, no path"
    return Problem(f"id {brief(image_id)}", None, "bad id", message, "image")


def _left_out(entry: Entry, problems: Iterable[Problem]) -> Item:
    return Item(entry.image_id, entry.file, entry.image_path, None, (), tuple(problems))
