"""Annotated photos, and how well detections fit them: COCO's mean average precision.

An evaluation set is a COCO JSON file beside its photos: `images` with a file_name each,
`categories` with a name each, `annotations` with a bbox of x, y, width, height in pixels of the
upright photo; iscrowd marks objects that are neither right nor wrong to find. `python -m training
coco` writes one from Pascal VOC, YOLO or COCO folders.

mAP as `python -m training evaluate` counts it: pycocotools, at most 100 detections a photo; classes
without an object in the set do not count.

Format: https://cocodataset.org/#format-data
"""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from client import Result
from serving.errors import EvaluationError

MAX_DETECTIONS = 100  # a photo, COCO's
SCORE_THRESHOLD = 0.01  # ask the server for detections from this score on: mAP wants all of them
PHOTO_DIGITS = 12  # of a photo's sha256, as training writes them
LISTS = ("images", "annotations", "categories")
REMEDY = "`python -m training coco` writes one from annotated folders"


@dataclass(frozen=True)
class EvaluationSet:
    """Annotated photos.

    source: the JSON file.
    photos: by a number that is this set's own.
    labels: the classes that have objects in the set.
    truth: COCO's annotations; image_id a key of `photos`, category_id a place in `labels`.
    """

    source: Path
    photos: Mapping[int, Path]
    labels: tuple[str, ...]
    truth: tuple[Mapping[str, Any], ...]

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise EvaluationError where an annotated class is not among these."""
        if unknown := [label for label in self.labels if label not in labels]:
            raise EvaluationError(
                f"{self.source} has objects of {', '.join(unknown)}, but the labels are "
                f"{', '.join(labels)}: write it again with `python -m training coco --rename`"
            )


@dataclass(frozen=True)
class Metrics:
    """Mean average precision, 0 to 1.

    map50: at an IoU of 0.5.
    map: the mean over the IoUs 0.5, 0.55 to 0.95.
    per_class: the two by label.
    images: how many photos they are of.
    source: the name of the set's file.
    """

    map50: float
    map: float
    per_class: Mapping[str, tuple[float, float]]
    images: int
    source: str = ""


def read_evaluation(annotations: Path, images: Path | None = None) -> EvaluationSet:
    """Read a COCO JSON file, and look for its photos.

    Args:
        annotations: the file.
        images: the folder that file names start from, or that holds the files themselves, whatever
            folders stand before their names; None: the JSON file's own folder.

    Raises:
        EvaluationError: it cannot be read, is not COCO, or photos are missing.
    """
    content = _parse(annotations)
    try:
        photos, numbers = _photos(content["images"], images or annotations.parent)
        names = _keyed(content["categories"], "categories", "name", "cell")
        rows = [_object(row, at, numbers, names) for at, row in enumerate(content["annotations"])]
    except EvaluationError as error:
        raise EvaluationError(f"{annotations}: {error}") from None
    except OSError as error:  # a name too long, a folder that may not be entered
        raise EvaluationError(f"{annotations}: {error.filename}: {error.strerror}") from None
    used = {label for label, _ in rows}
    labels = tuple(label for label in dict.fromkeys(names.values()) if label in used)
    truth = tuple({**row, "category_id": labels.index(label)} for label, row in rows)
    if not photos or not truth:
        missing = "photos" if not photos else "annotated objects"
        raise EvaluationError(f"{annotations} has no {missing}, so nothing can be measured with it")
    return EvaluationSet(annotations, photos, labels, truth)


def leave_out_photos(evaluation: EvaluationSet, trained_on: Collection[str]) -> EvaluationSet:
    """Without the photos that one of the networks was trained on: they would flatter it.

    Args:
        evaluation: the set.
        trained_on: as `serving.history.trained_on` tells them.

    Raises:
        EvaluationError: that leaves nothing to measure with.
    """
    kept = {
        number: path
        for number, path in evaluation.photos.items()
        if hashlib.sha256(path.read_bytes()).hexdigest()[:PHOTO_DIGITS] not in trained_on
    }
    truth = tuple(row for row in evaluation.truth if row["image_id"] in kept)
    if not truth:
        raise EvaluationError(
            f"{evaluation.source}: the artifact or the live version was trained on "
            f"{len(evaluation.photos) - len(kept)} of its {len(evaluation.photos)} photos, and the "
            "others have no objects: no fair comparison. Name other photos, or leave out "
            "--evaluation"
        )
    return replace(evaluation, photos=kept, truth=truth)


def score_detections(evaluation: EvaluationSet, found: Mapping[int, Result]) -> Metrics:
    """Mean average precision of detections.

    Args:
        evaluation: the truth.
        found: detections from `SCORE_THRESHOLD` on, by the photo's number; photos that are missing
            count as nothing found. Labels that the set does not know do not count.
    """
    detected = [
        row
        for number in evaluation.photos
        if number in found
        for row in _rows(number, found[number], evaluation.labels)
    ]
    precision = _precision(evaluation, detected)  # [IoU, recall, class], -1: no truth
    per_class = {
        label: (float(precision[0, :, place].mean()), float(precision[:, :, place].mean()))
        for place, label in enumerate(evaluation.labels)
        if precision[:, :, place].max() >= 0
    }
    map50, map_ = (
        float(np.mean([pair[which] for pair in per_class.values()])) if per_class else 0.0
        for which in (0, 1)
    )
    return Metrics(map50, map_, per_class, len(evaluation.photos), evaluation.source.name)


def _parse(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The file's three lists of objects."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}; {REMEDY}") from None
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is not JSON: {error}; {REMEDY}") from None
    for key in LISTS:
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise EvaluationError(
                f"{path}: expected COCO's JSON, with {', '.join(LISTS)} as lists of objects, but "
                f"{key} is not one; {REMEDY}"
            )
    return content


def _photos(
    rows: Iterable[Mapping[str, Any]], folder: Path
) -> tuple[dict[int, Path], dict[object, int]]:
    """The photos, and their numbers by the ids of the file."""
    names = _keyed(rows, "images", "file_name", "a.jpg")
    numbers = {key: place for place, key in enumerate(names)}
    photos = {
        place: next(
            (path for path in (folder / name, folder / Path(name).name) if path.is_file()),
            folder / name,
        )
        for place, name in enumerate(names.values())
    }
    if absent := [path for path in photos.values() if not path.is_file()]:
        raise EvaluationError(
            f"{len(absent)} of {len(photos)} photos are missing, first {absent[0]}: "
            "name the folder that holds them with --images"
        )
    return photos, numbers


def _keyed(
    rows: Iterable[Mapping[str, Any]], where: str, field: str, example: str
) -> dict[object, str]:
    """One field of all rows, by their ids."""
    found: dict[object, str] = {}
    for place, row in enumerate(rows):
        key, text = row.get("id"), row.get(field)
        if not isinstance(key, int | str) or not isinstance(text, str) or key in found:
            raise EvaluationError(
                f'{where}[{place}]: expected {{"id": 1, "{field}": "{example}"}} with an id of its '
                f"own, found id {key!r}, {field} {text!r}"
            )
        found[key] = text
    return found


def _object(
    row: Mapping[str, Any],
    place: int,
    numbers: Mapping[object, int],
    names: Mapping[object, str],
) -> tuple[str, dict[str, Any]]:
    """The label of one annotation, and the rest of it as pycocotools wants it."""
    try:
        x, y, width, height = (float(side) for side in row["bbox"])
        image, label = numbers[row["image_id"]], names[row["category_id"]]
    except (KeyError, TypeError, ValueError):
        raise EvaluationError(
            f"annotations[{place}]: expected a bbox of 4 numbers, an image_id of images and a "
            f"category_id of categories, found {row.get('bbox')}, {row.get('image_id')!r}, "
            f"{row.get('category_id')!r}"
        ) from None
    if not (width > 0 and height > 0 and all(map(math.isfinite, (x, y, width, height)))):
        raise EvaluationError(
            f"annotations[{place}]: expected a width and a height above 0 in bbox, "
            f"found {row['bbox']}"
        )
    return label, _box(image, (x, y, width, height)) | {"iscrowd": int(row.get("iscrowd") == 1)}


def _rows(number: int, result: Result, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The detections of one photo as pycocotools wants them."""
    return [
        _box(number, (box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1))
        | {"category_id": labels.index(found.label), "score": found.score}
        for found in result.detections
        if found.label in labels
        for box in [found.box]
    ]


def _box(image: int, box_xywh: tuple[float, float, float, float]) -> dict[str, Any]:
    return {"image_id": image, "bbox": list(box_xywh), "area": box_xywh[2] * box_xywh[3]}


def _precision(evaluation: EvaluationSet, detected: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """pycocotools' precision float [10 IoUs, 101 recalls, classes], over objects of any size."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        # Not loadRes: it cannot read an empty list, and gives each box a polygon.
        evaluator = COCOeval(
            _coco(evaluation, evaluation.truth), _coco(evaluation, detected), "bbox"
        )
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"][:, :, :, 0, 0])


def _coco(evaluation: EvaluationSet, rows: Sequence[Mapping[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in evaluation.photos],
        "categories": [{"id": n, "name": label} for n, label in enumerate(evaluation.labels)],
        "annotations": [{**row, "id": number} for number, row in enumerate(rows, start=1)],
    }
    coco.createIndex()
    return coco
