"""Several annotated folders side by side: their splits, their images, and what those are called."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from training.data.annotations import Entry
from training.data.folder_settings import FolderSettings
from training.data.formats.annotated_folder import bad_id
from training.data.layouts import data_folders, open_folder
from training.data.problems import BadSplitError, DataError, NoFolderError, Problem
from training.data.source import Source, sort_splits


class Sources:
    """The folders of a command, each with a name of its own in messages.

    Raises:
        DataError: a folder cannot be used, none is given, or one twice.
    """

    def __init__(self, settings: FolderSettings) -> None:
        directories: Sequence[Path] = settings.folders
        if settings.format == "auto":
            directories = [found for each in directories for found in data_folders(each)]
        self.members = [
            Source(name, open_folder(directory, settings.format), settings)
            for name, directory in zip(_folder_names(directories), directories, strict=True)
        ]
        for source in self.members:
            source.folder.resized = settings.resized
        self._unique_ids: dict[tuple[str, Path], str] = {}

    def splits(self) -> list[str]:
        """Names of the splits that any of the folders has."""
        return sort_splits({split for source in self.members for split in source.splits()})

    def entries(self, splits: Iterable[str]) -> Iterator[tuple[str, Source, Entry]]:
        """What all folders name in these splits, without the splits that cannot be read."""
        for split in splits:
            for source in self.members:
                with suppress(BadSplitError):
                    entries = source.entries(split)[0] if split in source.splits() else []
                    yield from ((split, source, entry) for entry in entries)

    def place(self, source: Source, file: str) -> str:
        """A file as messages name it, from its folder on."""
        return f"{source.name}/{file}" if len(self.members) > 1 else file

    def image_place(self, source: Source, image_path: Path) -> str:
        """An image's file as messages name it."""
        return self.place(source, source.folder.relative(image_path))

    def prefixed(self, source: Source, problems: Iterable[Problem]) -> list[Problem]:
        """Problems of one folder, as they are named among those of all."""
        return [dataclasses.replace(p, file=self.place(source, p.file)) for p in problems]

    def image_id(self, source: Source, entry: Entry) -> str:
        """An image's id among those of all folders.

        Raises:
            DataError: two images get the same one.
        """
        if entry.image_path is None:
            return entry.image_id
        if not self._unique_ids:
            self._unique_ids = self._find_unique_ids()
        return self._unique_ids[source.name, entry.image_path]

    def _find_unique_ids(self) -> dict[tuple[str, Path], str]:
        """Of all images of all splits, so that an id does not depend on the splits asked for."""
        owners: dict[str, set[tuple[Source, Path]]] = collections.defaultdict(set)
        for _, source, entry in self.entries(self.splits()):
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
            if count > 1 or bad_id(name):
                raise DataError(
                    f"{count} images get the id {name!r}; rename their files or folders"
                )
        return ids


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
