"""One of the annotated folders, with val held out by ratio where it names none."""

import collections
import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from training.data.annotations import Entry
from training.data.files import ALL, SPLIT_WORDS
from training.data.folder_settings import FolderSettings
from training.data.formats.annotated_folder import AnnotatedFolder, bad_id
from training.data.problems import BadSplitError, DataError, Problem

ORDER = ("train", "val", "trainval", "test")
POOLS = ("train", "trainval", ALL)  # what val is held out of: the first that there is
MADE = ("train", "val")  # what a pool is split into
RESPLIT = ("train", "val", "trainval", ALL)  # what is split anew: all that there are


class Source:
    """One of the folders, with val held out by ratio where it names none.

    name: what stands in front where several folders are meant.

    Raises:
        DataError: a split has a name that is none.
    """

    def __init__(self, name: str, folder: AnnotatedFolder, settings: FolderSettings) -> None:
        self.name, self.folder = name, folder
        self._val, self._seed, resplit = settings.val, settings.seed, settings.resplit
        self._group_by = parse_pattern(settings.group_by)
        self._listed: dict[str, tuple[list[Entry], list[Problem]]] = {}
        own = folder.splits()
        for split in own:
            if bad_id(split):
                raise DataError(f"{folder.directory}: expected a plain name for a split: {split!r}")
        # One list with a name that is no split's lists all there is, like CVAT's `default`.
        alone = len(own) == 1 and own[0] not in SPLIT_WORDS.values()
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
        return sort_splits(own)

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
        held_out = self._choose_val(entries)
        return [e for e in entries if (image_key(e) in held_out) == (split == "val")], problems

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
            entries |= {
                image_key(entry): entry for entry in found if image_key(entry) not in entries
            }
            problems += flaws
        return list(entries.values()), problems

    def _choose_val(self, entries: Sequence[Entry]) -> set[Path]:
        """As near to the share as whole groups allow; an image without a group is one by itself."""
        groups: dict[tuple[str, Path], list[Path]] = collections.defaultdict(list)
        for entry in entries:
            group = self.group(entry)
            name, path = (entry.image_id, image_key(entry)) if group is None else (group, Path())
            groups[self._rank(name), path].append(image_key(entry))
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


def image_key(entry: Entry) -> Path:
    """What makes it the same image in several splits."""
    return entry.image_path or Path(entry.file) / f"id {entry.image_id}"


def sort_splits(splits: Iterable[str]) -> list[str]:
    """The splits in the order that people name them in."""
    return sorted(splits, key=lambda name: (ORDER.index(name) if name in ORDER else 9, name))


def parse_pattern(group_by: str) -> re.Pattern[str] | None:
    """What `--group-by` looks for; None where it is empty.

    Raises:
        DataError: it is no regular expression.
    """
    try:
        return re.compile(group_by) if group_by else None
    except re.error as error:
        raise DataError(f"--group-by: {group_by!r} is no regular expression: {error}") from None
