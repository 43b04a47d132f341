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
  left out, for a model must not be measured on what it was trained on.
"""

import collections
import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Literal

import tyro

from training.data import (
    annotations,
    coco,
    csv_labels,
    resemblance,
    tfrecord,
    voc,
    yolo,
)
from training.data.annotations import (
    ALL,
    BadSplitError,
    DataError,
    Dataset,
    Entry,
    FatalFor,
    Item,
    Kind,
    NoFolderError,
    Problem,
    Resized,
)

FORMATS: tuple[ModuleType, ...] = (voc, yolo, coco)
# Made of one of those as a rule, so they count where there is none.
DERIVED: tuple[ModuleType, ...] = (csv_labels, tfrecord)
NAMES = {"voc": voc, "yolo": yolo, "coco": coco, "csv": csv_labels, "tfrecord": tfrecord}
Format = Literal["auto", "voc", "yolo", "coco", "csv", "tfrecord"]
ORDER = ("train", "val", "trainval", "test")
POOLS = ("train", "trainval", ALL)  # what val is held out of: the first that there is
DEPTHS = range(1, 5)  # of VOC2007 below an archive's own folders
MADE = ("train", "val")  # what a pool is split into
RESPLIT = ("train", "val", "trainval", ALL)  # what is split anew: all that there are
# Images of the first must be in none of the others. Of val and test it is only told.
HELD_OUT = {"train": ("val", "test"), "trainval": ("test",), "val": ("test",)}


def open_folder(directory: Path, form: Format = "auto") -> annotations.Folder:
    """The folder in the format that its layout tells; DataError where none or several fit."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    if form != "auto":
        return NAMES[form].Folder(directory)
    return _form(directory).Folder(directory)


def _form(directory: Path) -> ModuleType:
    found = [form for form in FORMATS if form.fits(directory)]
    if len(found) > 1:
        names = " and ".join(form.Folder.format for form in found)
        raise DataError(
            f"{directory}: {names} in one folder; move one of them to its own, or give --format"
        )
    if not found and coco.json_files(directory) and not tfrecord.files(directory):
        found = [coco]
    found = found or [form for form in DERIVED if form.fits(directory)][:1]
    if not found:
        forms = (*FORMATS, *DERIVED)
        layouts = "".join(f"\n  {form.Folder.format}: {form.LAYOUT}" for form in forms)
        raise DataError(f"{directory}: no layout that is known here; looked for{layouts}")
    return found[0]


def _passed_over(folder: annotations.Folder) -> str:
    """What of another format is in there, in words; empty where nothing is."""
    forms = [form for form in DERIVED if form.Folder.format != folder.format]
    found = {name: form.files(folder.directory) for name, form in NAMES.items() if form in forms}
    if folder.format not in {form.Folder.format for form in FORMATS} or not any(found.values()):
        return ""
    files = ", ".join(folder.relative(path) for paths in found.values() for path in paths[:3])
    names = " or ".join(f"--format {name}" for name, paths in found.items() if paths)
    return f"; not read, as they hold the same as a rule: {files} ({names} reads them instead)"


def within(directory: Path) -> list[Path]:
    """The folder, or those in it that hold the data: VOCdevkit's years, an archive's only one."""
    if not directory.is_dir() or voc.is_vocs(directory) or yolo.fits(directory):
        return [directory]
    if coco.fits(directory):
        return [directory]
    parts = (path for depth in DEPTHS for path in directory.glob("*/" * depth + voc.PARTS[0]))
    if years := sorted(path.parent for path in parts if voc.is_vocs(path.parent)):
        return years
    folders = [path for path in directory.iterdir() if path.is_dir() and path.name[0] != "."]
    forms = (voc, *DERIVED)
    known = coco.json_files(directory) or any(form.fits(directory) for form in forms)
    return [directory] if known or len(folders) != 1 else within(folders[0])


@dataclasses.dataclass(frozen=True)
class FolderSettings:
    """What every command says of the annotated folders that it reads."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """One folder, or several that become one set of images."""
    _: dataclasses.KW_ONLY
    labels: tuple[str, ...] = ()
    """Class names in the order of their ids; none given: those found, most frequent first."""
    rename: tuple[str, ...] = ()
    """old=new: other names for classes, several may get the same; old= drops the class."""
    val: float = 0.2
    """Share of a folder's images, 0 to 1, that is held out as val where it names no val."""
    seed: int = 0
    """Another seed holds out other images."""
    resplit: bool = False
    """Hold out by ratio even where a folder has its own val."""
    format: Format = "auto"
    """Format of all the folders; auto: what the layout of each tells."""
    resized: Resized = "unknown"
    """Where a photo has another size than its annotation says: yes, it was resized since, so boxes
    are scaled; no, that size is wrong and boxes fit as they are; unknown leaves the photo out."""
    group_by: str = ""
    """Regular expression that is looked for in an image's name, then in its path: images where it
    finds the same are held out together, as frames of one video or photos of one patient should
    be. 'clip\\d+', or with parentheses around what counts: '(.+)_\\d+'."""

    def open(self) -> "Folders":
        """The folders as one. Raises DataError as `Folders`."""
        return Folders(
            self.folders,
            self.rename,
            self.val,
            self.seed,
            self.resplit,
            self.resized,
            self.group_by,
            self.format,
        )


class Source:
    """One of the folders, with val held out by ratio where it names none.

    name: what stands in front where several folders are meant.
    val, seed, resplit, group_by: as `Folders`.
    """

    def __init__(
        self,
        name: str,
        folder: annotations.Folder,
        val: float,
        seed: int,
        resplit: bool,
        group_by: re.Pattern[str] | None = None,
    ) -> None:
        self.name, self.folder = name, folder
        self._val, self._seed, self._group_by = val, seed, group_by
        self._listed: dict[str, tuple[list[Entry], list[Problem]]] = {}
        own = folder.splits()
        for split in own:
            if annotations.bad_id(split):
                raise DataError(f"{folder.directory}: expected a plain name for a split: {split!r}")
        # One list with a name that is no split's lists all there is, like CVAT's `default`.
        alone = len(own) == 1 and own[0] not in annotations.SPLIT_WORDS.values()
        self._all = own[0] if alone else ALL
        known = [self._all if name == ALL else name for name in (RESPLIT if resplit else POOLS)]
        pools = [split for split in known if split in own]
        self._pool = pools if resplit else pools[:1] * ("val" not in own)

    def splits(self) -> list[str]:
        own = set(self.folder.splits())
        if self._pool:
            there = (self._val < 1, self._val > 0 and not self._is_one_image)
            own = (own - {*MADE, self._all}) | {
                name for name, made in zip(MADE, there, strict=True) if made
            }
        return _sorted(own)

    @functools.cached_property
    def _is_one_image(self) -> bool:
        """Which is train's, so that there is no val."""
        with suppress(BadSplitError):
            return self._val < 1 and len(self._pooled()[0]) == 1
        return False

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        """As `annotations.Folder.entries`, of the splits here."""
        if split not in self._listed:
            self._listed[split] = self._list(split)
        return self._listed[split]

    def _list(self, split: str) -> tuple[list[Entry], list[Problem]]:
        if not self._pool or split not in MADE:
            return self.folder.entries(split)
        entries, problems = self._pooled()
        held_out = self._held_out(entries)
        return [e for e in entries if (_key(e) in held_out) == (split == "val")], problems

    def note(self) -> str:
        """The format, the splits, and what was held out."""
        text = f"{self.folder.directory}: {self.folder.format}, {', '.join(self.splits())}"
        if not self._pool:
            return text
        if self._is_one_image:
            return f"{text}; val is none of the 1 image"
        train, val = (len(self.entries(split)[0]) for split in MADE)
        pool = "" if self._pool == [ALL] else f" of {' and '.join(self._pool)}"
        text = (
            f"{text}; val is {val} of the {train + val} images{pool}, held out by ratio "
            f"(--val {self._val:g} --seed {self._seed})"
        )
        if not self._group_by:
            return text
        groups = [{self.group(e) for e in self.entries(split)[0]} - {None} for split in MADE]
        return f"{text}, {len(groups[1])} of the {len(groups[0] | groups[1])} groups"

    def is_made(self, split: str) -> bool:
        """Whether it is this that made the split, by ratio."""
        return bool(self._pool) and split in MADE

    def _pooled(self) -> tuple[list[Entry], list[Problem]]:
        entries: dict[Path, Entry] = {}
        problems: list[Problem] = []
        for split in self._pool:
            found, flaws = self.folder.entries(split)
            entries |= {_key(entry): entry for entry in found if _key(entry) not in entries}
            problems += flaws
        return list(entries.values()), problems

    def _held_out(self, entries: Sequence[Entry]) -> set[Path]:
        """As near to the share as whole groups allow; an image without a group is one by itself."""
        groups: dict[tuple[str, Path], list[Path]] = collections.defaultdict(list)
        for entry in entries:
            group = self.group(entry)
            name, path = (entry.image_id, _key(entry)) if group is None else (group, Path())
            groups[self._rank(name), path].append(_key(entry))
        if 0 < self._val < 1 and len(groups) == 1 < len(entries):
            raise DataError(
                f"{self.folder.directory}: --group-by finds the same in all {len(entries)} images, "
                "so none can be held out of the others: another pattern, or --val 0"
            )
        count = round(len(entries) * self._val)
        if 0 < self._val < 1:
            count = min(max(count, 1), len(entries) - 1)
        held_out: set[Path] = set()
        for _, group_keys in sorted(groups.items()):
            more = len(held_out) + len(group_keys)
            emptied = more == len(entries) and self._val < 1  # of train
            if abs(more - count) < abs(len(held_out) - count) and not emptied:
                held_out.update(group_keys)
        if not held_out and count:  # all groups are twice as large as val should be, or more
            held_out.update(sorted(groups.values(), key=len)[0])
        return held_out

    def group(self, entry: Entry) -> str | None:
        """What `group_by` finds in an image's name, or else in its path; None without either."""
        if not self._group_by:
            return None
        path = self.folder.relative(entry.image_path) if entry.image_path else entry.file
        found = self._group_by.search(entry.image_id) or self._group_by.search(path)
        return ("/".join(filter(None, found.groups())) or found[0]) if found else None

    def _rank(self, name: str) -> str:
        text = f"{self._seed}:{name}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(text).hexdigest()


class Folders:
    """Several annotated folders as one.

    directories: one or more, each in a known format.
    rename: `old=new`, class names; `old=` drops the class's boxes.
    val: the share of a folder's images that is held out where it names no val, 0 to 1.
    seed: another seed holds out others.
    resplit: hold out by ratio even where a folder has its own val.
    resized: as `annotations.Folder`.
    group_by: a regular expression; images of a folder where it finds the same are held out
        together.
    form: the format of all of them, or auto.

    Raises DataError where a folder cannot be used or the settings are not acceptable.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        rename: Sequence[str] = (),
        val: float = 0.2,
        seed: int = 0,
        resplit: bool = False,
        resized: Resized = "unknown",
        group_by: str = "",
        form: Format = "auto",
    ) -> None:
        if not 0 <= val <= 1:
            raise DataError(f"--val: expected a share of 0 to 1, found {val}")
        self._group_by = _parse_pattern(group_by)
        self._rename = _parse_renames(rename)
        if form == "auto":
            directories = [found for directory in directories for found in within(directory)]
        names = _folder_names(directories)
        self._sources = [
            Source(name, open_folder(directory, form), val, seed, resplit, self._group_by)
            for name, directory in zip(names, directories, strict=True)
        ]
        for source in self._sources:
            source.folder.resized = resized
        self._read_splits: dict[str, tuple[list[Item], list[Problem]]] = {}
        self._labels: collections.Counter[str] = collections.Counter()  # before renaming
        self._digests: dict[Path, str] = {}
        self._unique_ids: dict[tuple[str, Path], str] = {}

    def __str__(self) -> str:
        return ", ".join(str(source.folder.directory) for source in self._sources)

    def splits(self) -> list[str]:
        """Names of the splits that any of the folders has."""
        return _sorted({split for source in self._sources for split in source.splits()})

    def notes(self) -> list[str]:
        """A line per folder: its format, its splits, and what was held out of them.

        Raises DataError where --group-by finds nothing.
        """
        notes = [source.note() + _passed_over(source.folder) for source in self._sources]
        entries = [(source, entry) for _, source, entry in self._entries(self.splits())]
        if self._group_by and entries and not any(s.group(entry) for s, entry in entries):
            raise DataError(
                f"--group-by: no image's name or path has {self._group_by.pattern!r} in it; one is "
                f"{entries[0][1].image_id!r}"
            )
        return notes

    def check_files(self) -> None:
        """DataError where images are in records, so that nothing can name them as files."""
        for source in self._sources:
            if source.folder.format == tfrecord.Folder.format:
                raise DataError(
                    f"{source.folder.directory}: its images are in TFRecords and have no files; "
                    "name the folder that the records were made of"
                )

    def read(self, split: str, labels: Sequence[str] | None = None) -> Dataset:
        """A split, from all folders that have it; `labels` as in `annotations.Folder.read`.

        Raises BadSplitError where no folder has it, or one that has it cannot read it.
        """
        items, problems = self._read(split)
        dataset = annotations.dataset(str(self), split, items, problems, labels)
        flaws = [
            *_all_shares(dataset),
            *dataset.problems,
            *_no_boxes(dataset),
            *self._broken_groups(split),
            *self._lookalikes(split),
        ]
        return dataclasses.replace(dataset, problems=tuple(flaws))

    def datasets(self, splits: Sequence[str] = (), labels: Sequence[str] = ()) -> list[Dataset]:
        """What `records` writes: these splits, or those of train and val that there are.

        labels: as in `read`; none given: those of all these splits.

        Raises DataError where there is no such split, or nothing usable in one of them.
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
        return [source.name for source in self._sources if split not in source.splits()]

    def strays(self) -> list[Problem]:
        """Annotations that belong to no image of any split."""
        return [
            problem
            for source in self._sources
            for problem in self._prefixed(source, source.folder.strays())
        ]

    def _read(self, split: str) -> tuple[list[Item], list[Problem]]:
        if split not in self._read_splits:
            self._read_splits[split] = self._read_once(split)
        return self._read_splits[split]

    def _read_once(self, split: str) -> tuple[list[Item], list[Problem]]:
        sources = [source for source in self._sources if split in source.splits()]
        if not sources:
            message = f"no split {split}; splits here: {', '.join(self.splits()) or 'none'}"
            raise BadSplitError(self._sources[0].folder.directory, ".", message)
        found: list[tuple[Source, Item]] = []
        problems: list[Problem] = []
        for source in sources:
            entries, flaws = source.entries(split)
            problems += self._prefixed(source, flaws)
            items = source.folder.items(entries, split)
            pairs = zip(entries, items, strict=True)
            found += [(source, self._joined(source, entry, item)) for entry, item in pairs]
        self._labels.update(obj.label for _, item in found for obj in item.objects)
        if problem := self._one_folder(split, found):
            problems.append(problem)
            found = [] if problem.fatal_for == "split" else found
        return [self._renamed(item) for item in self._without_twins(found, split)], problems

    def _one_folder(self, split: str, found: list[tuple[Source, Item]]) -> Problem | None:
        """That a split's files are all those of another it must not share any with."""
        paths = {item.image_path for _, item in found if item.image_path}
        for other in HELD_OUT.get(split, ()):
            if paths and paths == {entry.image_path for _, _, entry in self._entries([other])}:
                place = os.path.relpath(os.path.commonpath(paths), found[0][0].folder.directory)
                message = f"{split} and {other} are one folder or list, in {place}: name another"
                return Problem(
                    split, None, "leakage", message, "nothing" if split == "val" else "split"
                )
        return None

    def _joined(self, source: Source, entry: Entry, item: Item) -> Item:
        """An item as it is called among those of all folders."""
        return dataclasses.replace(
            item,
            image_id=self._image_id(source, entry),
            file=self._place(source, item.file),
            problems=tuple(self._prefixed(source, item.problems)),
        )

    def _prefixed(self, source: Source, problems: Iterable[Problem]) -> list[Problem]:
        return [dataclasses.replace(p, file=self._place(source, p.file)) for p in problems]

    def _place(self, source: Source, file: str) -> str:
        return f"{source.name}/{file}" if len(self._sources) > 1 else file

    def _renamed(self, item: Item) -> Item:
        objects = [
            dataclasses.replace(obj, label=self._rename.get(obj.label, obj.label))
            for obj in item.objects
        ]
        return dataclasses.replace(item, objects=tuple(obj for obj in objects if obj.label))

    def _image_id(self, source: Source, entry: Entry) -> str:
        if entry.image_path is None:
            return entry.image_id
        if not self._unique_ids:
            self._unique_ids = self._find_unique_ids()
        return self._unique_ids[source.name, entry.image_path]

    def _find_unique_ids(self) -> dict[tuple[str, Path], str]:
        """Of all images of all splits, so that an id does not depend on the splits asked for."""
        owners: dict[str, set[tuple[Source, Path]]] = collections.defaultdict(set)
        for _, source, entry in self._entries(self.splits()):
            if entry.image_path is not None:
                owners[entry.image_id].add((source, entry.image_path))
        ids = {}
        for image_id, images in owners.items():
            counts = collections.Counter(source for source, _ in images)
            for source, path in images:
                own = image_id if counts[source] == 1 else source.folder.relative(path)
                name = own if len(counts) == 1 else f"{source.name}/{own}"
                ids[source.name, path] = name.replace("/", "-")
        for name, count in collections.Counter(ids.values()).items():
            if count > 1 or annotations.bad_id(name):
                raise DataError(
                    f"{count} images get the id {name!r}; rename their files or folders"
                )
        return ids

    def _entries(self, splits: Iterable[str]) -> Iterator[tuple[str, Source, Entry]]:
        """What all folders name in these splits, without the splits that cannot be read."""
        for split in splits:
            for source in self._sources:
                with suppress(BadSplitError):
                    entries = source.entries(split)[0] if split in source.splits() else []
                    yield from ((split, source, entry) for entry in entries)

    def _without_twins(self, found: list[tuple[Source, Item]], split: str) -> Iterator[Item]:
        """The items, those left out whose file's content came before or is held out."""
        held_out = self._held_out(split)
        seen: dict[str, str] = {}  # digest: where
        for source, item in found:
            if item.info is None or item.image_path is None:
                yield item
                continue
            place = self._image_place(source, item.image_path)
            digest = self._digest(item.image_path)
            if digest in held_out:
                other, where, made_too = held_out[digest]
                message = f"the same picture as {where}, which is in {other}"
                fatal_for: FatalFor = "nothing" if split == "val" else "image"
                made = source.is_made(split) and made_too
                kind: Kind = "duplicate image" if made else "leakage"
                yield _twin(item, Problem(place, None, kind, message, fatal_for))
            elif digest in seen:
                message = f"the same picture as {seen[digest]}"
                yield _twin(item, Problem(place, None, "duplicate image", message, "image"))
            else:
                yield item
            seen.setdefault(digest, place)

    def _held_out(self, split: str) -> dict[str, tuple[str, str, bool]]:
        """Digests of the images that must not be in this split.

        Returns:
            For each the split that it is in, where it lies, and whether that split was made here.
        """
        return {
            self._digest(entry.image_path): (
                other,
                self._image_place(source, entry.image_path),
                source.is_made(other),
            )
            for other, source, entry in self._entries(HELD_OUT.get(split, ()))
            if entry.image_path is not None
        }

    def _broken_groups(self, split: str) -> list[Problem]:
        """Groups that a folder's own lists have put on both sides, each once."""
        here = self._groups((split,))
        there = self._groups(HELD_OUT.get(split, ()))
        return [
            Problem(
                place,
                None,
                "broken group",
                f"of the group {key[1]!r}, as is {there[key][1]}, which is in {there[key][0]}; "
                "--resplit keeps a group together in train or val",
                "nothing",
            )
            for key, (_, place) in here.items()
            if key in there
        ]

    def _groups(self, splits: Iterable[str]) -> dict[tuple[str, str], tuple[str, str]]:
        """By folder and group one of its images: the split that it is in, and its place."""
        return {
            (source.name, group): (split, self._image_place(source, entry.image_path))
            for split, source, entry in self._entries(splits)
            if entry.image_path is not None and (group := source.group(entry)) is not None
        }

    def _lookalikes(self, split: str) -> list[Problem]:
        """Images of a split that look like one trained on, in splits that were read before."""
        ours = [(item, _look(item)) for item in self._read_splits[split][0]]
        others = [
            (name, item, _look(item))
            for name in ("train", "trainval")
            if split in HELD_OUT[name] and name in self._read_splits
            for item in self._read_splits[name][0]
        ]
        nearest = resemblance.most_alike([look for _, look in ours], [x[-1] for x in others])
        return [
            _lookalike(item, *others[place][:2])
            for (item, _), place in zip(ours, nearest, strict=True)
            if place is not None and self._differ(item.image_path, others[place][1].image_path)
        ]

    def _differ(self, path: Path | None, other: Path | None) -> bool:
        return path is None or other is None or self._digest(path) != self._digest(other)

    def _image_place(self, source: Source, image_path: Path) -> str:
        return self._place(source, source.folder.relative(image_path))

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            with path.open("rb") as file:
                self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[path]


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


def _look(item: Item) -> bytes:
    return item.info.look if item.info else b""


def _lookalike(item: Item, split: str, other: Item) -> Problem:
    message = (
        f"{item.image_id} looks like {other.image_id}, which is in {split}: where they are of one "
        "scene, --group-by keeps them on one side"
    )
    return Problem(item.file, None, "near-duplicate", message, "nothing")


def _twin(item: Item, problem: Problem) -> Item:
    """An item whose picture is in there elsewhere; left out where that is fatal."""
    problems = (*item.problems, problem)
    if problem.fatal_for == "nothing":
        return dataclasses.replace(item, problems=problems)
    return dataclasses.replace(item, info=None, objects=(), problems=problems)


def _key(entry: Entry) -> Path:
    """What makes it the same image in several splits."""
    return entry.image_path or Path(entry.file) / f"id {entry.image_id}"


def _sorted(splits: Iterable[str]) -> list[str]:
    return sorted(splits, key=lambda name: (ORDER.index(name) if name in ORDER else 9, name))


def _folder_names(directories: Sequence[Path]) -> list[str]:
    """A different name for each folder: as many of its path's last parts as it takes."""
    if not directories:
        raise NoFolderError("expected one folder or more, found none")
    paths = [Path(os.path.realpath(directory)) for directory in directories]
    if len(set(paths)) < len(paths):
        raise DataError(f"the same folder twice: {', '.join(map(str, directories))}")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _parse_pattern(group_by: str) -> re.Pattern[str] | None:
    try:
        return re.compile(group_by) if group_by else None
    except re.error as error:
        raise DataError(f"--group-by: {group_by!r} is no regular expression: {error}") from None


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
