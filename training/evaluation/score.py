"""mAP of detections against the truth, with pycocotools. Needs no TensorFlow.

mAP is COCO's: the area under the precision-recall curve at 101 recall points, at most 100
detections an image. mAP@0.5 is at an IoU of 0.5, mAP@[.5:.95] the mean over ten IoUs.
Objects marked `difficult` are COCO's crowd: finding them is neither right nor wrong.
"""

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from training.errors import TrainingError

MAX_DETECTIONS = 100  # an image, COCO's
TRAINED_ON = " of photos trained on"
IOUS = (0.5, 0.75)  # the rows of `Metrics.matches`
ANY_SIZE = {"all": (0.0, 1e10)}  # square pixels
NO_OBJECT = -1  # in `Metrics.matches`: the detection found no object


@dataclass(frozen=True)
class Truth:
    """One annotated image: boxes float32 [N, 4] xyxy in pixels, classes int [N], difficult [N]."""

    image_id: str
    width: int
    height: int
    boxes_xyxy: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class Detected:
    """The detections of one image: boxes float32 [N, 4] xyxy in pixels, best score first."""

    image_id: str
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Spread:
    """Half the width of the interval in which 95% of the draws lie, 0 to 0.5.

    Attributes:
        map50: of mAP@0.5.
        map: of mAP@[.5:.95].
        per_class: of both, by label.
    """

    map50: float
    map: float
    per_class: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Metrics:
    """Mean average precision, 0 to 1; per class (mAP@0.5, mAP@[.5:.95]).

    split: which one was measured on.
    trained_on: how many of its images the network was trained on; None where that is not known.
    spread: how far they may be off; None where that was not measured.
    matches: for each image id int [2, N], the row of the truth that each detection found at an
        IoU of 0.5 and of 0.75, or `NO_OBJECT`.
    """

    map50: float
    map: float
    per_class: dict[str, tuple[float, float]]
    images: int
    split: str = ""
    trained_on: int | None = None
    spread: Spread | None = None
    matches: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, str]:
        """What to call the two figures: those of photos that it was trained on are no mAP."""
        suffix = TRAINED_ON if self.trained_on else ""
        return f"mAP@0.5{suffix}", f"mAP@[.5:.95]{suffix}"

    @property
    def held_out(self) -> str:
        """Whether the images were, in words."""
        if self.trained_on is None:
            return "not known whether it was trained on them"
        if self.trained_on:
            return f"{self.trained_on} of them trained on: this tells nothing of other photos"
        return "none of them trained on"

    def to_dict(self) -> dict[str, object]:
        told = self._name_figures(self) | {
            "split": self.split,
            "images": self.images,
            "trained_on": self.trained_on,
        }
        return told | ({"plus_minus": self._name_figures(self.spread)} if self.spread else {})

    def _name_figures(self, of: "Metrics | Spread") -> dict[str, object]:
        names = self.names
        per_class = {k: dict(zip(names, both, strict=True)) for k, both in of.per_class.items()}
        figures = dict(zip(names, (of.map50, of.map), strict=True))
        return figures | {"per_class": per_class}

    def format_figures(self, label: str | None = None) -> tuple[str, str]:
        """Both figures of a class, or for None of all, with what they may be off where known."""
        figures = (self.map50, self.map) if label is None else self.per_class[label]
        if self.spread is None:
            return f"{figures[0]:.3f}", f"{figures[1]:.3f}"
        off = (self.spread.map50, self.spread.map)
        off = off if label is None else self.spread.per_class[label]
        return f"{figures[0]:.3f} ± {off[0]:.3f}", f"{figures[1]:.3f} ± {off[1]:.3f}"


def is_measurable(truth: list[Truth]) -> bool:
    """Whether there is an object to find: without one mAP is 0 whatever was learned."""
    return any(not image.difficult.all() for image in truth)


def score_detections(
    truth: list[Truth], detected: list[Detected], labels: tuple[str, ...]
) -> Metrics:
    """COCO's mean average precision. Classes without a truth in the split do not count.

    Raises:
        TrainingError: an image has no detections entry, or one that has no truth.
    """
    ids = {image.image_id for image in truth}
    names = {image.image_id for image in detected}
    if names != ids:
        odd = sorted(names ^ ids)
        raise TrainingError(
            f"detections and truth must name the same images, but {len(odd)} stand in only one "
            f"of them, first {odd[0]!r}: detect on exactly the images of the split"
        )
    evaluator = match_objects(truth, detected, labels)
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class]
    precision = np.where(precision < 0, np.nan, precision)  # -1: no truth of that class
    present = [k for k in range(len(labels)) if not np.isnan(precision[:, :, k]).all()]
    per_class = {
        labels[k]: (float(precision[0, :, k].mean()), float(precision[:, :, k].mean()))
        for k in present
    }
    return Metrics(
        float(np.mean([a for a, _ in per_class.values()])) if per_class else 0.0,
        float(np.mean([b for _, b in per_class.values()])) if per_class else 0.0,
        per_class,
        len(truth),
        matches=_matches(evaluator, truth, detected),
    )


def match_objects(
    truth: list[Truth],
    detected: list[Detected],
    labels: tuple[str, ...],
    sizes: Mapping[str, tuple[float, float]] = ANY_SIZE,
) -> COCOeval:
    """pycocotools' evaluator after its work.

    sizes: areas of objects, from and to, in square pixels; one after the other is looked at.
    """
    ids = {image.image_id: number for number, image in enumerate(truth)}
    images = [{"id": ids[t.image_id], "width": t.width, "height": t.height} for t in truth]
    categories = [{"id": k, "name": name} for k, name in enumerate(labels)]
    rows = [
        [
            _row(image, row, ids) | {"iscrowd": int(image.difficult[row])}
            for image, row in _rows(truth)
        ],
        [
            _row(image, row, ids) | {"score": float(image.scores[row])}
            for image, row in _rows(detected)
        ],
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        # Not loadRes: it cannot read an empty list, and gives each box a polygon.
        evaluator = COCOeval(*(_coco(images, categories, part) for part in rows), iouType="bbox")
        evaluator.params.areaRng = [list(ends) for ends in sizes.values()]
        evaluator.params.areaRngLbl = list(sizes)
        evaluator.params.maxDets = [MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def _rows(images: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    return ((image, row) for image in images for row in range(len(image.classes)))


def _row(image: Truth | Detected, row: int, ids: dict[str, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in image.boxes_xyxy[row])
    return {
        "image_id": ids[image.image_id],
        "category_id": int(image.classes[row]),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
    }


def _coco(images: list[Any], categories: list[Any], rows: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    annotations = [row | {"id": number} for number, row in enumerate(rows, start=1)]
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _matches(
    evaluator: COCOeval, truth: list[Truth], detected: list[Detected]
) -> dict[str, np.ndarray]:
    """`Metrics.matches`. pycocotools speaks of ids, which count up over all images from 1."""
    order = {image.image_id: place for place, image in enumerate(detected)}
    first_object, first_detection = _first_ids(truth), _first_ids(detected)
    at = [int(np.argmin(np.abs(evaluator.params.iouThrs - iou))) for iou in IOUS]
    found = [np.full((len(at), len(image.classes)), NO_OBJECT) for image in detected]
    for result in filter(None, evaluator.evalImgs):
        image = result["image_id"]
        place = order[truth[image].image_id]
        rows = np.array(result["dtIds"], int) - first_detection[place]
        ids = result["dtMatches"][at].astype(int)  # 0: nothing found
        found[place][:, rows] = np.where(ids > 0, ids - first_object[image], NO_OBJECT)
    return {image.image_id: found[place] for place, image in enumerate(detected)}


def _first_ids(images: Iterable[Any]) -> list[int]:
    return list(itertools.accumulate((len(image.classes) for image in images), initial=1))


def metrics_table(metrics: Metrics) -> str:
    """mAP over all classes and per class, a line each."""
    rows = [("all classes", *metrics.format_figures())]
    rows += [(label, *metrics.format_figures(label)) for label in metrics.per_class]
    rows = [("", *metrics.names), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{metrics.images} images, {metrics.held_out}"]
    for name, first, second in rows:
        lines.append(f"{name:{widths[0]}}  {first:>{widths[1]}}  {second:>{widths[2]}}")
    if metrics.spread:
        lines.append("±: 95% of mAPs on as many other photos lie so near (bootstrap over photos)")
    return "\n".join(lines)
