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
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from training.data import annotations
from training.data.annotations import (
    ALL,
    BadObjectError,
    BadSplitError,
    Content,
    DataError,
    Entry,
    ImageInfo,
    Object,
    Problem,
    UnknownClassError,
    left_out,
)

LAYOUT = (
    "annotations/*.json, SPLIT/_annotations.coco.json or *.json, and the images where their "
    "file_name says"
)
JSON_LIMIT = 2**30  # bytes; COCO's own instances_train2017.json has 0.45 * 10**9
PATTERNS = (
    "*/_annotations.coco.json",
    "annotations/instances_*.json",
    "annotations/*.json",
    "*/labels.json",  # with data/ beside it
    "*.json",
)
NAMED_ALIKE = ("_annotations.coco.json", "labels.json")  # whose split is their folder's name
LISTS = ("images", "annotations", "categories")


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


class Folder(annotations.Folder):
    """A COCO folder. Raises DataError where two of its files are the same split."""

    format = "COCO"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        paths = json_files(directory)
        if not paths:
            raise DataError(f"{directory}: not a COCO folder; expected {LAYOUT}")
        self._paths: dict[str, Path] = {}
        self._others = _of_another_kind(paths)
        if len(paths) == len(self._others) > 0:
            raise DataError(
                f"{directory}: none of its {len(paths)} JSON files is COCO. labelme writes one a "
                "photo: `pip install labelme2coco` and `labelme2coco FOLDER` make one file of them"
            )
        paths = [path for path in paths if path not in self._others]
        for path in paths:
            alike = path.name in NAMED_ALIKE and path.parent != directory
            name = path.parent.name if alike else path.stem
            split = annotations.split_name(name, ALL if len(paths) == 1 else path.stem)
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
            content = _parse(path)
            labels = _labels(content["categories"])
        except DataError as error:
            raise BadSplitError(self.directory, file, str(error)) from error
        images, problems = _images(content["images"], file)
        objects, strays = _by_image({key[0] for key in images}, content["annotations"], file)
        ids, names = (collections.Counter(key[side] for key in images) for side in (0, 1))
        roots = self._roots(split, path)
        ends = not any(annotations.find_file(name, roots) for _, name in images)
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
        words = [word for word, name in annotations.SPLIT_WORDS.items() if name == split]
        names = [path.stem.removeprefix("instances_"), *words]
        inside = [f"{parent}{name}" for name in names for parent in ("images/", "")]
        parts = (*inside, "images", "", "data")
        places = [path.parent, path.parent / "data", *(self.directory / part for part in parts)]
        return [place for place in dict.fromkeys(places) if place.is_dir()]

    def _entry(self, name: str, file: str, roots: list[Path], ends: bool) -> Entry:
        path, image_id = annotations.find_file(name, roots, ends), PurePosixPath(name).stem
        if path:
            return self.entry(image_id, file, path)
        if name.startswith("/") or ".." in PurePosixPath(name).parts or not name.isprintable():
            message = f"file_name {annotations.brief(name)}: expected a path within the folder"
            message += "; put the JSON file into or above the folder of its images"
            return left_out(image_id, file, file, "bad id", message)
        places = ", ".join(root.relative_to(self.directory).as_posix() for root in roots)
        message = f"there is no {annotations.brief(name)}; looked in {places}"
        return left_out(image_id, file, file, "missing image", message)

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        record = self._records[entry]
        found = annotations.parse_objects(
            record.objects, entry.file, lambda fields, index: _object(fields, index, record.labels)
        )
        return Content(_claimed_size(record.image), *found)


def _parse(path: Path) -> dict[str, list]:
    """The file's three lists; DataError where they are not there."""
    try:
        content = json.loads(annotations.read_bytes(path, JSON_LIMIT))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"not acceptable as JSON: {type(error).__name__}: {error}") from error
    for key in LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"not COCO: expected an object with the lists {', '.join(LISTS)}")
    return content


def _of_another_kind(paths: list[Path]) -> list[Path]:
    """Those among several files that are sound JSON, but neither COCO nor called after a split.

    A broken file is none of them: it may have been a split.
    """
    return [path for path in paths if len(paths) > 1 and not _may_be_coco(path)]


def _may_be_coco(path: Path) -> bool:
    if annotations.split_name(path.stem, ""):
        return True
    try:
        content = json.loads(annotations.read_bytes(path, JSON_LIMIT))
    except (DataError, OSError, ValueError, RecursionError):
        return True
    return isinstance(content, dict) and bool({"images", "annotations"} & set(content))


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


def _labels(categories: list) -> dict[int | str, str]:
    labels: dict[int | str, str] = {}
    for place, category in enumerate(categories):
        number = _id(category.get("id")) if isinstance(category, dict) else None
        if number is None:
            raise DataError(
                f'categories[{place}]: expected {{"id": 1, "name": "cell"}}, '
                f"found {annotations.brief(category)}"
            )
        try:
            label = annotations.clean_label(category.get("name"))
        except BadObjectError as error:
            raise DataError(f"categories[{place}]: {error}") from error
        if labels.setdefault(number, label) != label:
            raise DataError(f"categories[{place}]: its id {number} has two names")
    return labels


def _id(value: object) -> int | str | None:
    """An id, alike for 1, 1.0 and "1"; None for what is none."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"0|[1-9]\d{0,17}", value, re.ASCII) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _images(
    records: list, file: str
) -> tuple[dict[tuple[int | str, str], dict[str, Any]], list[Problem]]:
    """The entries of `images` by id and file name, and those that have neither."""
    images: dict[tuple[int | str, str], dict[str, Any]] = {}
    problems = []
    for place, record in enumerate(records):
        fields = record if isinstance(record, dict) else {}
        image_id, name = _id(fields.get("id")), fields.get("file_name")
        name = name.replace("\\", "/") if isinstance(name, str) else ""
        if image_id is None or not PurePosixPath(name).name:
            message = f'images[{place}]: expected {{"id": 1, "file_name": "a.jpg"}}'
            message += f", found {annotations.brief(record)}"
            problems.append(Problem(file, None, "bad id", message, "image"))
            continue
        key = (image_id, str(PurePosixPath(name)))
        if key in images:
            message = f"images[{place}]: {annotations.brief(name)} stands there again, read once"
            problems.append(Problem(file, None, "duplicate id", message, "nothing"))
        images.setdefault(key, record)
    return images, problems


def _by_image(
    image_ids: set[int | str], records: list, file: str
) -> tuple[dict[int | str, list[tuple[int, dict[str, Any]]]], list[Problem]]:
    """The entries of `annotations` by their image, and those that have none."""
    objects: dict[int | str, list[tuple[int, dict[str, Any]]]] = collections.defaultdict(list)
    problems = []
    for index, record in enumerate(records):
        found = record.get("image_id") if isinstance(record, dict) else None
        if (image_id := _id(found)) in image_ids:
            objects[image_id].append((index, record))
            continue
        message = f"its image_id {annotations.brief(found)} is no id in images"
        problems.append(Problem(file, index, "missing image", message, "box"))
    return objects, problems


def _object(record: dict[str, Any], index: int, labels: dict[int | str, str]) -> Object:
    category = _id(record.get("category_id"))
    if category not in labels:
        found = annotations.brief(record.get("category_id"))
        raise UnknownClassError(f"its category_id {found} is no id in categories")
    x1, y1, x2, y2, text = _box(record)
    annotations.check_area(x2 - x1, y2 - y1, text)
    crowd, doubts = annotations.flag(record.get("iscrowd"), "iscrowd")
    return Object(index, labels[category], (x1, y1, x2, y2), text, crowd, remarks=doubts)


def _box(record: dict[str, Any]) -> tuple[float, float, float, float, str]:
    """The edges, xyxy in pixels, and how the file has them."""
    bbox, polygons = record.get("bbox"), record.get("segmentation")
    if not bbox and isinstance(polygons, list) and all(isinstance(p, list) for p in polygons):
        x, y = (
            [annotations.finite(value, "segmentation") for p in polygons for value in p[side::2]]
            for side in (0, 1)
        )
        if x and y:
            edges = (min(x), min(y), max(x), max(y))
            return *edges, f"segmentation within {', '.join(f'{edge:g}' for edge in edges)}"
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise BadObjectError(f"expected a bbox of 4 numbers, found {annotations.brief(bbox)}")
    left, top, width, height = (annotations.finite(value, "bbox") for value in bbox)
    text = f"bbox {left:g}, {top:g}, {width:g}, {height:g}"
    return left, top, left + width, top + height, text


def _claimed_size(record: dict[str, Any]) -> tuple[float, float] | None:
    try:
        return (
            annotations.finite(record.get("width"), "width"),
            annotations.finite(record.get("height"), "height"),
        )
    except BadObjectError:
        return None
