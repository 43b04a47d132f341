"""What would make a figure lie: pictures, groups and lookalikes on both sides of a split."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from training.data import resemblance
from training.data.annotations import Item
from training.data.problems import FatalFor, Kind, Problem
from training.data.source import Source
from training.data.sources import Sources

# Images of the first must be in none of the others. Of val and test it is only told.
HELD_OUT = {"train": ("val", "test"), "trainval": ("test",), "val": ("test",)}


class Leakage:
    """What splits of the same folders share."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._digests: dict[Path, str] = {}

    def one_folder(self, split: str, found: list[tuple[Source, Item]]) -> Problem | None:
        """That a split's files are all those of another it must not share any with."""
        paths = {item.image_path for _, item in found if item.image_path}
        for other in HELD_OUT.get(split, ()):
            if paths and paths == {
                entry.image_path for _, _, entry in self._sources.entries([other])
            }:
                place = os.path.relpath(os.path.commonpath(paths), found[0][0].folder.directory)
                message = f"{split} and {other} are one folder or list, in {place}: name another"
                return Problem(
                    split, None, "leakage", message, "nothing" if split == "val" else "split"
                )
        return None

    def without_twins(self, found: list[tuple[Source, Item]], split: str) -> Iterator[Item]:
        """The items, those left out whose file's content came before or is held out."""
        held_out = self._held_out_digests(split)
        seen: dict[str, str] = {}  # digest: where
        for source, item in found:
            if item.info is None or item.image_path is None:
                yield item
                continue
            place = self._sources.image_place(source, item.image_path)
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

    def _held_out_digests(self, split: str) -> dict[str, tuple[str, str, bool]]:
        """Digests of the images that must not be in this split.

        Returns:
            For each the split that it is in, where it lies, and whether that split was made here.
        """
        return {
            self._digest(entry.image_path): (
                other,
                self._sources.image_place(source, entry.image_path),
                source.is_made(other),
            )
            for other, source, entry in self._sources.entries(HELD_OUT.get(split, ()))
            if entry.image_path is not None
        }

    def broken_groups(self, split: str) -> list[Problem]:
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
            (source.name, group): (split, self._sources.image_place(source, entry.image_path))
            for split, source, entry in self._sources.entries(splits)
            if entry.image_path is not None and (group := source.group(entry)) is not None
        }

    def lookalikes(self, split: str, read: Mapping[str, list[Item]]) -> list[Problem]:
        """Images of a split that look like one trained on, in splits that were read before."""
        ours = [(item, _look(item)) for item in read[split]]
        others = [
            (name, item, _look(item))
            for name in ("train", "trainval")
            if split in HELD_OUT[name] and name in read
            for item in read[name]
        ]
        nearest = resemblance.most_alike([look for _, look in ours], [x[-1] for x in others])
        return [
            _lookalike(item, *others[place][:2])
            for (item, _), place in zip(ours, nearest, strict=True)
            if place is not None and self._differ(item.image_path, others[place][1].image_path)
        ]

    def _differ(self, path: Path | None, other: Path | None) -> bool:
        return path is None or other is None or self._digest(path) != self._digest(other)

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            with path.open("rb") as file:
                self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[path]


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
