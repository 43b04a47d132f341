"""Reads a folder in COCO's JSON format.

In: one JSON file a split, with the lists `images`, `annotations` and `categories`, found as
DIRECTORY/annotations/instances_train2017.json and its like, DIRECTORY/train/_annotations.coco.json
(Roboflow), DIRECTORY/train/labels.json (FiftyOne) or DIRECTORY/*.json, where JSON of another kind
is passed over. An image lies where its `file_name` says, seen from the JSON file's folder,
DIRECTORY, images/, images/SPLIT, SPLIT or data/. Where not one is found so, the names begin
elsewhere (`/data/upload/a.jpg`, a path of Windows, an address), and their ends count. What leaves
DIRECTORY is refused.

Ids are numbers or text, and `"1"` is 1. A `bbox` is x, y, width, height in pixels, continuous, from
0; where there is none, it is the box around the polygons of `segmentation`. `iscrowd` becomes
`difficult`, which evaluation treats as COCO treats crowds.

Format: https://cocodataset.org/#format-data
"""

import collections
import dataclasses
from pathlib import Path, PurePosixPath
from typing import Any

from training.data import files
from training.data.annotations import Content, Entry
from training.data.decoding import ImageInfo
from training.data.files import ALL
from training.data.formats import annotated_folder
from training.data.formats.annotated_folder import left_out
from training.data.formats.coco_json import (
    LISTS,
    claimed_size,
    group_objects,
    index_images,
    of_another_kind,
    parse_labels,
    parse_lists,
    parse_object,
)
from training.data.formats.values import parse_objects
from training.data.problems import (
    BadSplitError,
    DataError,
    Problem,
    brief,
)

LAYOUT = (
    "annotations/*.json, SPLIT/_annotations.coco.json or *.json, and the images where their "
    "file_name says"
)
PATTERNS = (
    "*/_annotations.coco.json",
    "annotations/instances_*.json",
    "annotations/*.json",
    "*/labels.json",  # with data/ beside it
    "*.json",
)
NAMED_ALIKE = ("_annotations.coco.json", "labels.json")  # whose split is their folder's name


@dataclasses.dataclass(frozen=True)
class _Record:
    """What a JSON file says of one image."""

    image: dict[str, Any]
    objects: list[tuple[int, dict[str, Any]]]  # each with its place in `annotations`
    labels: dict[int | str, str]  # by category_id


def fits(directory: Path) -> bool:
    """Whether a folder has this layout; JSON files lying about are no sign of it."""
    return any(path.parent != directory for path in json_files(directory))


def json_files(directory: Path) -> list[Path]:
    """The JSON files that hold objects, in a fixed order."""
    for pattern in PATTERNS:
        paths = sorted(directory.glob(pattern))
        if pattern.endswith("/labels.json"):
            paths = [path for path in paths if (path.parent / "data").is_dir()]
        if paths:
            return paths
    return []


class Folder(annotated_folder.AnnotatedFolder):
    """A COCO folder.

    Raises:
        DataError: two of its files are the same split.
    """

    format = "COCO"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        paths = json_files(directory)
        if not paths:
            raise DataError(f"{directory}: not a COCO folder; expected {LAYOUT}")
        self._paths: dict[str, Path] = {}
        self._others = of_another_kind(paths)
        if len(paths) == len(self._others) > 0:
            raise DataError(
                f"{directory}: none of its {len(paths)} JSON files is COCO. labelme writes one a "
                "photo: `pip install labelme2coco` and `labelme2coco FOLDER` make one file of them"
            )
        paths = [path for path in paths if path not in self._others]
        for path in paths:
            alike = path.name in NAMED_ALIKE and path.parent != directory
            name = path.parent.name if alike else path.stem
            split = files.split_name(name, ALL if len(paths) == 1 else path.stem)
            if split in self._paths:
                both = f"{self.relative(self._paths[split])} and {self.relative(path)}"
                raise DataError(f"{directory}: {both} are both the split {split}; move one away")
            self._paths[split] = path
        self._read_splits: dict[str, tuple[list[Entry], list[Problem]]] = {}
        self._records: dict[Entry, _Record] = {}

    def splits(self) -> list[str]:
        return list(self._paths)

    def strays(self) -> list[Problem]:
        """JSON files without annotations."""
        message = f"no COCO, passed over; that has the lists {', '.join(LISTS)}"
        names = [self.relative(path) for path in self._others]
        return [Problem(name, None, "bad split", message, "nothing") for name in names]

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        self.require_split(split)
        if split not in self._read_splits:
            self._read_splits[split] = self._read_file(split, self._paths[split])
        return self._read_splits[split]

    def _read_file(self, split: str, path: Path) -> tuple[list[Entry], list[Problem]]:
        file = self.relative(path)
        try:
            if not self.within(path):
                raise DataError("a link that leaves the folder; put a copy of it in its place")
            content = parse_lists(path)
            labels = parse_labels(content["categories"])
        except DataError as error:
            raise BadSplitError(self.directory, file, str(error)) from error
        images, problems = index_images(content["images"], file)
        objects, strays = group_objects({key[0] for key in images}, content["annotations"], file)
        ids, names = (collections.Counter(key[side] for key in images) for side in (0, 1))
        roots = self._roots(split, path)
        ends = not any(files.find_file(name, roots) for _, name in images)
        entries = []
        for (image_id, name), image in images.items():
            if ids[image_id] > 1 or names[name] > 1:
                message = f"{name!r}: its id stands for several images, or it has several ids"
                entries.append(left_out(name, file, file, "duplicate id", message))
                continue
            entry = self._entry(name, file, roots, ends)
            self._records[entry] = _Record(image, objects[image_id], labels)
            entries.append(entry)
        return _without_shared(entries), problems + strays

    def _roots(self, split: str, path: Path) -> list[Path]:
        """Folders that file names may start from, the most likely first."""
        words = [word for word, name in files.SPLIT_WORDS.items() if name == split]
        names = [path.stem.removeprefix("instances_"), *words]
        inside = [f"{parent}{name}" for name in names for parent in ("images/", "")]
        parts = (*inside, "images", "", "data")
        places = [path.parent, path.parent / "data", *(self.directory / part for part in parts)]
        return [place for place in dict.fromkeys(places) if place.is_dir()]

    def _entry(self, name: str, file: str, roots: list[Path], ends: bool) -> Entry:
        path, image_id = files.find_file(name, roots, ends), PurePosixPath(name).stem
        if path:
            return self.entry(image_id, file, path)
        if name.startswith("/") or ".." in PurePosixPath(name).parts or not name.isprintable():
            message = f"file_name {brief(name)}: expected a path within the folder"
            message += "; put the JSON file into or above the folder of its images"
            return left_out(image_id, file, file, "bad id", message)
        places = ", ".join(root.relative_to(self.directory).as_posix() for root in roots)
        message = f"there is no {brief(name)}; looked in {places}"
        return left_out(image_id, file, file, "missing image", message)

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        record = self._records[entry]
        found = parse_objects(
            record.objects,
            entry.file,
            lambda fields, index: parse_object(fields, index, record.labels),
        )
        return Content(claimed_size(record.image), *found)


def _without_shared(entries: list[Entry]) -> list[Entry]:
    """The entries, those left out whose names lead to one file: nobody knows whose it is."""
    counts = collections.Counter(entry.image_path for entry in entries)
    message = "several images have this file, by different names"
    return [
        left_out(entry.image_id, entry.file, entry.file, "duplicate id", f"{path.name}: {message}")
        if (path := entry.image_path) and counts[path] > 1
        else entry
        for entry in entries
    ]
