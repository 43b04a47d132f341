"""What a COCO file says: its three lists, checked row by row."""

import collections
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from training.data import files
from training.data.annotations import Object
from training.data.formats.values import check_area, clean_label, finite, flag
from training.data.problems import BadObjectError, DataError, Problem, UnknownClassError, brief

JSON_LIMIT = 2**30  # bytes; COCO's own instances_train2017.json has 0.45 * 10**9
LISTS = ("images", "annotations", "categories")


def parse_lists(path: Path) -> dict[str, list]:
    """The file's three lists; DataError where they are not there."""
    try:
        content = json.loads(files.read_bytes(path, JSON_LIMIT))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"not acceptable as JSON: {type(error).__name__}: {error}") from error
    for key in LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"not COCO: expected an object with the lists {', '.join(LISTS)}")
    return content


def of_another_kind(paths: list[Path]) -> list[Path]:
    """Those among several files that are sound JSON, but neither COCO nor called after a split.

    A broken file is none of them: it may have been a split.
    """
    return [path for path in paths if len(paths) > 1 and not _may_be_coco(path)]


def _may_be_coco(path: Path) -> bool:
    if files.split_name(path.stem, ""):
        return True
    try:
        content = json.loads(files.read_bytes(path, JSON_LIMIT))
    except (DataError, OSError, ValueError, RecursionError):
        return True
    return isinstance(content, dict) and bool({"images", "annotations"} & set(content))


def parse_labels(categories: list) -> dict[int | str, str]:
    labels: dict[int | str, str] = {}
    for place, category in enumerate(categories):
        number = _id(category.get("id")) if isinstance(category, dict) else None
        if number is None:
            raise DataError(
                f'categories[{place}]: expected {{"id": 1, "name": "cell"}}, '
                f"found {brief(category)}"
            )
        try:
            label = clean_label(category.get("name"))
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


def index_images(
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
            message += f", found {brief(record)}"
            problems.append(Problem(file, None, "bad id", message, "image"))
            continue
        key = (image_id, str(PurePosixPath(name)))
        if key in images:
            message = f"images[{place}]: {brief(name)} stands there again, read once"
            problems.append(Problem(file, None, "duplicate id", message, "nothing"))
        images.setdefault(key, record)
    return images, problems


def group_objects(
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
        message = f"its image_id {brief(found)} is no id in images"
        problems.append(Problem(file, index, "missing image", message, "box"))
    return objects, problems


def parse_object(record: dict[str, Any], index: int, labels: dict[int | str, str]) -> Object:
    category = _id(record.get("category_id"))
    if category not in labels:
        found = brief(record.get("category_id"))
        raise UnknownClassError(f"its category_id {found} is no id in categories")
    x1, y1, x2, y2, text = _box(record)
    check_area(x2 - x1, y2 - y1, text)
    crowd, doubts = flag(record.get("iscrowd"), "iscrowd")
    return Object(index, labels[category], (x1, y1, x2, y2), text, crowd, remarks=doubts)


def _box(record: dict[str, Any]) -> tuple[float, float, float, float, str]:
    """The edges, xyxy in pixels, and how the file has them."""
    bbox, polygons = record.get("bbox"), record.get("segmentation")
    if not bbox and isinstance(polygons, list) and all(isinstance(p, list) for p in polygons):
        x, y = (
            [finite(value, "segmentation") for p in polygons for value in p[side::2]]
            for side in (0, 1)
        )
        if x and y:
            edges = (min(x), min(y), max(x), max(y))
            return *edges, f"segmentation within {', '.join(f'{edge:g}' for edge in edges)}"
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise BadObjectError(f"expected a bbox of 4 numbers, found {brief(bbox)}")
    left, top, width, height = (finite(value, "bbox") for value in bbox)
    text = f"bbox {left:g}, {top:g}, {width:g}, {height:g}"
    return left, top, left + width, top + height, text


def claimed_size(record: dict[str, Any]) -> tuple[float, float] | None:
    try:
        return (
            finite(record.get("width"), "width"),
            finite(record.get("height"), "height"),
        )
    except BadObjectError:
        return None
