"""Opens annotated folders, whatever their formats, and makes one set of images of them.

In: one folder or several, each in one of `FORMATS`, told apart by their layout.

Out: splits as `Dataset`s, like those of a single folder, with

- class names renamed or dropped;
- val held out of train by ratio where a folder names no val: the images whose hashed
  (seed, image id) comes first. That keeps the exact ratio; an image's place depends neither on the
  order of files nor on other folders, and hardly on images that are added later. Images of a
  group (`--group-by`) are held out together, as near to the ratio as that allows;
- image ids that are unique: where they collide, the folder's name stands in front;
- the same file's content only once a split, and never in train and val both: the copy in train is
  left out, for a model must not be measured on what it was trained on;
- no image that is a copy of a frozen one (`--frozen`).
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import suppress

from training.data import annotations, layouts
from training.data.annotations import Dataset, Entry, Item
from training.data.folder_settings import FolderSettings
from training.data.formats import tfrecord
from training.data.frozen import Frozen
from training.data.leakage import Leakage
from training.data.problems import BadSplitError, DataError, Problem
from training.data.source import MADE, Source, parse_pattern
from training.data.sources import Sources


class Folders:
    """Several annotated folders as one.

    Raises:
        DataError: a folder cannot be used, or a setting is not acceptable.
    """

    def __init__(self, settings: FolderSettings) -> None:
        if not 0 <= settings.val <= 1:
            raise DataError(f"--val: expected a share of 0 to 1, found {settings.val}")
        self._group_by = parse_pattern(settings.group_by)
        self._rename = _parse_renames(settings.rename)
        self._sources = Sources(settings)
        self._leakage = Leakage(self._sources)
        self._frozen = Frozen(settings.frozen)
        self._read_splits: dict[str, tuple[list[Item], list[Problem]]] = {}
        self._labels: collections.Counter[str] = collections.Counter()  # before renaming

    def __str__(self) -> str:
        return ", ".join(str(source.folder.directory) for source in self._sources.members)

    def splits(self) -> list[str]:
        """Names of the splits that any of the folders has."""
        return self._sources.splits()

    def notes(self) -> list[str]:
        """A line per folder: its format, its splits, and what was held out of them.

        Raises:
            DataError: --group-by finds nothing.
        """
        notes = [
            source.note() + layouts.passed_over(source.folder) for source in self._sources.members
        ]
        entries = [(source, entry) for _, source, entry in self._sources.entries(self.splits())]
        if self._group_by and entries and not any(s.group(entry) for s, entry in entries):
            raise DataError(
                f"--group-by: no image's name or path has {self._group_by.pattern!r} in it; one is "
                f"{entries[0][1].image_id!r}"
            )
        return notes

    def check_files(self) -> None:
        """DataError where images are in records, so that nothing can name them as files."""
        for source in self._sources.members:
            if source.folder.format == tfrecord.Folder.format:
                raise DataError(
                    f"{source.folder.directory}: its images are in TFRecords and have no files; "
                    "name the folder that the records were made of"
                )

    def read(self, split: str, labels: Sequence[str] | None = None) -> Dataset:
        """A split, from all folders that have it; `labels` as in `AnnotatedFolder.read`.

        Raises:
            BadSplitError: no folder has it, or one that has it cannot read it.
        """
        items, problems = self._read(split)
        dataset = annotations.make_dataset(str(self), split, items, problems, labels)
        flaws = [
            *_all_shares(dataset),
            *dataset.problems,
            *_no_boxes(dataset),
            *self._leakage.broken_groups(split),
            *self._leakage.lookalikes(split, self._items()),
        ]
        return dataclasses.replace(dataset, problems=tuple(flaws))

    def datasets(self, splits: Sequence[str] = (), labels: Sequence[str] = ()) -> list[Dataset]:
        """What `records` writes: these splits, or those of train and val that there are.

        labels: as in `read`; none given: those of all these splits.

        Raises:
            DataError: there is no such split, or nothing usable in one of them.
        """
        here = self.splits()
        splits = splits or [split for split in MADE if split in here]
        if not splits:
            raise DataError(
                f"{self}: neither train nor val; name the splits with --splits; "
                f"here are: {', '.join(here) or 'none'}"
            )
        self.check_renames(splits)
        labels = labels or self.labels(splits)
        datasets = [self.read(split, labels) for split in splits]
        for dataset in datasets:
            annotations.check_usable(dataset)
        return datasets

    def labels(self, splits: Iterable[str]) -> tuple[str, ...]:
        """The classes found in these splits, the most frequent first, ties by name."""
        return annotations.labels_found(item for split in splits for item in self._read(split)[0])

    def check_renames(self, splits: Iterable[str]) -> None:
        """DataError where a class to be renamed occurs in none of these splits."""
        for split in splits:
            with suppress(BadSplitError):
                self._read(split)
        for old in self._rename:
            if old not in self._labels:
                here = ", ".join(label for label, _ in self._labels.most_common()) or "none"
                raise DataError(f"--rename: no box has the class {old!r}; classes here: {here}")

    def without(self, split: str) -> list[str]:
        """Names of the folders that have no such split."""
        return [source.name for source in self._sources.members if split not in source.splits()]

    def strays(self) -> list[Problem]:
        """Annotations that belong to no image of any split."""
        return [
            problem
            for source in self._sources.members
            for problem in self._sources.prefixed(source, source.folder.strays())
        ]

    def _read(self, split: str) -> tuple[list[Item], list[Problem]]:
        if split not in self._read_splits:
            self._read_splits[split] = self._read_once(split)
        return self._read_splits[split]

    def _items(self) -> dict[str, list[Item]]:
        """The images of the splits that were read so far."""
        return {split: items for split, (items, _) in self._read_splits.items()}

    def _read_once(self, split: str) -> tuple[list[Item], list[Problem]]:
        sources = [source for source in self._sources.members if split in source.splits()]
        if not sources:
            message = f"no split {split}; splits here: {', '.join(self.splits()) or 'none'}"
            raise BadSplitError(self._sources.members[0].folder.directory, ".", message)
        found: list[tuple[Source, Item]] = []
        problems: list[Problem] = []
        for source in sources:
            entries, flaws = source.entries(split)
            problems += self._sources.prefixed(source, flaws)
            items = source.folder.items(entries, split)
            pairs = zip(entries, items, strict=True)
            found += [(source, self._joined(source, entry, item)) for entry, item in pairs]
        self._labels.update(obj.label for _, item in found for obj in item.objects)
        if problem := self._leakage.one_folder(split, found):
            problems.append(problem)
            found = [] if problem.fatal_for == "split" else found
        items = self._frozen.leave_out_copies([*self._leakage.without_twins(found, split)], split)
        return [self._renamed(item) for item in items], problems

    def _joined(self, source: Source, entry: Entry, item: Item) -> Item:
        """An item as it is called among those of all folders."""
        return dataclasses.replace(
            item,
            image_id=self._sources.image_id(source, entry),
            file=self._sources.place(source, item.file),
            problems=tuple(self._sources.prefixed(source, item.problems)),
        )

    def _renamed(self, item: Item) -> Item:
        objects = [
            dataclasses.replace(obj, label=self._rename.get(obj.label, obj.label))
            for obj in item.objects
        ]
        return dataclasses.replace(item, objects=tuple(obj for obj in objects if obj.label))


def _all_shares(dataset: Dataset) -> list[Problem]:
    """What to do where every box is written as shares of its image, if that is so."""
    boxes = any(annotation.labels for annotation in dataset.annotations)
    if boxes or not any(problem.kind == "shares, not pixels" for problem in dataset.problems):
        return []
    message = (
        "all boxes lie within 0 to 1, as shares of the image do, but this format counts pixels: "
        "multiply them by the image's width and height, or write YOLO text"
    )
    return [Problem(".", None, "shares, not pixels", message, "split")]


def _no_boxes(dataset: Dataset) -> list[Problem]:
    """That a whole split has none, where that is so."""
    count = len(dataset.annotations)
    if not count or any(annotation.labels for annotation in dataset.annotations):
        return []
    message = f"none of its {count} images has a box: nothing to learn or measure"
    return [Problem(dataset.split, None, "no boxes", message, "nothing")]


def _parse_renames(rename: Sequence[str]) -> dict[str, str]:
    """New class names by old ones; an empty one drops the class."""
    renames: dict[str, str] = {}
    for text in rename:
        old, equals, new = text.partition("=")
        if not old or not equals:
            raise DataError(
                f"--rename: expected old=new, or old= to drop the class, found {text!r}"
            )
        annotations.check_labels([new] if new else [])
        if renames.setdefault(old, new) != new:
            raise DataError(f"--rename: {old!r} has two new names, {renames[old]!r} and {new!r}")
    return renames
