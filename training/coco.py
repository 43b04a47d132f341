"""Reads a folder in COCO's JSON format.

In: one JSON file a split, with the lists `images`, `annotations` and `categories`, found as
DIRECTORY/annotations/instances_train2017.json and its like, DIRECTORY/train/_annotations.coco.json
(Roboflow) or DIRECTORY/*.json. An image lies where its `file_name` says, seen from the JSON file's
folder, DIRECTORY, images/, images/SPLIT or SPLIT; what leaves DIRECTORY is refused.

A `bbox` is x, y, width, height in pixels, continuous, from 0. `iscrowd` becomes `difficult`, which
evaluation treats as COCO treats crowds. Segmentations are not read: `bbox` is their box.

Format: https://cocodataset.org/#format-data
"""

import collections
import dataclasses
import json
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from training import annotations
from training.annotations import (
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
    ZeroAreaError,
    left_out,
)

LAYOUT = (
    "annotations/*.json, SPLIT/_annotations.coco.json or *.json, and the images where their "
    "file_name says"
)
JSON_LIMIT = 2**30  # bytes; COCO's own instances_train2017.json has 0.45 * 10**9
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
    exported = sorted(directory.glob("*/_annotations.coco.json"))
    official = sorted(directory.glob("annotations/instances_*.json"))
    others = sorted(directory.glob("annotations/*.json"))
    return exported or official or others or sorted(directory.glob("*.json"))


class Folder(annotations.Folder):
    """A COCO folder. Raises DataError where two of its files are the same split."""

    format = "COCO"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        paths = json_files(directory)
        if not paths:
            raise DataError(f"{directory}: not a COCO folder; expected {LAYOUT}")
        self._paths: dict[str, Path] = {}
        for path in paths:
            split = _split(path, ALL if len(paths) == 1 else path.stem)
            if split in self._paths:
                both = f"{self.relative(self._paths[split])} and {self.relative(path)}"
                raise DataError(f"{directory}: {both} are both the split {split}; move one away")
            self._paths[split] = path
        self._read_splits: dict[str, tuple[list[Entry], list[Problem]]] = {}
        self._records: dict[Entry, _Record] = {}

    def splits(self) -> list[str]:
        return list(self._paths)

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        if split not in self._paths:
            here = ", ".join(self.splits())
            message = f"no file of a split {split}; splits here: {here}"
            raise BadSplitError(self.directory, ".", message)
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
        entries = []
        for (image_id, name), image in images.items():
            if ids[image_id] > 1 or names[name] > 1:
                message = f"{name!r}: its id stands for several images, or it has several ids"
                entries.append(left_out(name, file, file, "duplicate id", message))
                continue
            entry = self._entry(name, file, roots)
            self._records[entry] = _Record(image, objects[image_id], labels)
            entries.append(entry)
        return entries, problems + strays

    def _roots(self, split: str, path: Path) -> list[Path]:
        """Folders that file names may start from, the most likely first."""
        words = [word for word, name in annotations.SPLIT_WORDS.items() if name == split]
        names = [path.stem.removeprefix("instances_"), *words]
        inside = [f"{parent}{name}" for name in names for parent in ("images/", "")]
        places = [path.parent, *(self.directory / part for part in (*inside, "images", ""))]
        return [place for place in dict.fromkeys(places) if place.is_dir()]

    def _entry(self, name: str, file: str, roots: list[Path]) -> Entry:
        parts, image_id = PurePosixPath(name), PurePosixPath(name).stem
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or not name.isprintable():
            message = f"file_name {annotations.brief(name)}: expected a path within the folder"
            return left_out(image_id, file, file, "bad id", message)
        for root in roots:
            if annotations.is_file(root / name):
                return self.entry(image_id, file, root / name)
        places = ", ".join(root.relative_to(self.directory).as_posix() for root in roots)
        message = f"there is no {name}; looked in {places}"
        return left_out(image_id, file, file, "missing image", message)

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        record = self._records[entry]
        found = annotations.parse_objects(
            record.objects, entry.file, lambda fields, index: _object(fields, index, record.labels)
        )
        return Content(_claimed_size(record.image), *found)


def _split(path: Path, otherwise: str) -> str:
    """From the file's name, or from the folder's where a tool names all files alike."""
    name = path.parent.name if path.name == "_annotations.coco.json" else path.stem
    return annotations.split_name(name, otherwise)


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


def _labels(categories: list) -> dict[int | str, str]:
    labels: dict[int | str, str] = {}
    for place, category in enumerate(categories):
        if not isinstance(category, dict) or not _is_id(category.get("id")):
            raise DataError(
                f'categories[{place}]: expected {{"id": 1, "name": "cell"}}, '
                f"found {annotations.brief(category)}"
            )
        try:
            label = annotations.clean_label(category.get("name"))
        except BadObjectError as error:
            raise DataError(f"categories[{place}]: {error}") from error
        if labels.setdefault(category["id"], label) != label:
            raise DataError(f"categories[{place}]: its id {category['id']} has two names")
    return labels


def _is_id(value: object) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _images(
    records: list, file: str
) -> tuple[dict[tuple[int | str, str], dict[str, Any]], list[Problem]]:
    """The entries of `images` by id and file name, and those that have neither."""
    images: dict[tuple[int | str, str], dict[str, Any]] = {}
    problems = []
    for place, record in enumerate(records):
        fields = record if isinstance(record, dict) else {}
        image_id, name = fields.get("id"), fields.get("file_name")
        if not _is_id(image_id) or not isinstance(name, str) or not PurePosixPath(name).name:
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
        image_id = record.get("image_id") if isinstance(record, dict) else None
        if _is_id(image_id) and image_id in image_ids:
            objects[image_id].append((index, record))
            continue
        message = f"its image_id {annotations.brief(image_id)} is no id in images"
        problems.append(Problem(file, index, "missing image", message, "box"))
    return objects, problems


def _object(record: dict[str, Any], index: int, labels: dict[int | str, str]) -> Object:
    category, bbox, crowd = (record.get(key) for key in ("category_id", "bbox", "iscrowd"))
    if not _is_id(category) or category not in labels:
        raise UnknownClassError(
            f"its category_id {annotations.brief(category)} is no id in categories"
        )
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise BadObjectError(f"expected a bbox of 4 numbers, found {annotations.brief(bbox)}")
    x, y, width, height = (annotations.finite(value, "bbox") for value in bbox)
    text = f"bbox {x:g}, {y:g}, {width:g}, {height:g}"
    if width <= 0 or height <= 0:
        raise ZeroAreaError(f"expected a width and a height above 0, found {text}")
    if crowd not in (None, 0, 1):
        raise BadObjectError(f"expected 0 or 1 in iscrowd, found {annotations.brief(crowd)}")
    return Object(index, labels[category], (x, y, x + width, y + height), text, crowd == 1)


def _claimed_size(record: dict[str, Any]) -> tuple[float, float] | None:
    try:
        return (
            annotations.finite(record.get("width"), "width"),
            annotations.finite(record.get("height"), "height"),
        )
    except BadObjectError:
        return None
