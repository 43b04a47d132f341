"""How far a mAP may be off because another draw of photos would have given another one.

The percentile bootstrap over photos: Efron and Tibshirani, An Introduction to the Bootstrap (1993),
section 13.3. Photos, not objects, for the objects of a photo are found or missed together. Two
networks are compared on the same draws: what makes a photo hard is hard for both, so their
difference is known better than either figure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from training.evaluation.score import Detected, Spread, Truth, match_objects

DRAWS = 1000
FEWEST_DRAWS = 100
WORK = 3e8  # detections x IoUs x draws; of more detections fewer draws are made
SHARE = 0.95  # of the draws lie in the interval
_ENDS = (50 * (1 - SHARE), 100 - 50 * (1 - SHARE))  # percentiles
FEW = 10  # photos; of fewer the draws are too much alike to tell anything


class Interval(NamedTuple):
    """By how much a figure is higher, and between which two 95% of the draws lie."""

    difference: float
    low: float
    high: float

    @property
    def is_chance(self) -> bool:
        """Whether no difference at all lies among them."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Difference:
    """What the second of two networks gains on the same photos.

    figures: of mAP@0.5 and mAP@[.5:.95]; per_class: of both, by label.
    """

    figures: tuple[Interval, Interval]
    per_class: dict[str, tuple[Interval, Interval]]


def measure_spread(
    truth: list[Truth], detected: list[Detected], labels: tuple[str, ...]
) -> Spread | None:
    """The spread of what `score.score_detections` gives; None of too few photos to tell."""
    if len(truth) < FEW:
        return None
    classes = _tables(truth, detected, labels)
    times = _draw_photos(len(truth), classes.values())
    precisions = {label: draw_precisions(table, times) for label, table in classes.items()}
    return Spread(
        *_half_width(_means(precisions)),
        {label: _half_width(values) for label, values in precisions.items()},
    )


def measure_difference(
    truth: list[Truth], one: list[Detected], other: list[Detected], labels: tuple[str, ...]
) -> Difference | None:
    """What `other` gains over `one`, the detections of two networks on the same photos; None of
    too few photos to tell."""
    if len(truth) < FEW:
        return None
    both = [_tables(truth, detected, labels) for detected in (one, other)]
    times = _draw_photos(len(truth), [table for tables in both for table in tables.values()])
    whole = np.ones((1, len(truth)), int)
    # [draws, 2] by label, the first row that of the photos as they are
    were, are = (
        {k: draw_precisions(table, np.concatenate([whole, times])) for k, table in tables.items()}
        for tables in both
    )
    return Difference(
        _intervals(_means(are) - _means(were)),
        {label: _intervals(are[label] - were[label]) for label in were},
    )


def _tables(
    truth: list[Truth], detected: list[Detected], labels: tuple[str, ...]
) -> dict[str, "Table"]:
    """By label, of the classes that have objects."""
    evaluator = match_objects(truth, detected, labels)
    return {
        label: table
        for k, label in enumerate(labels)
        if (table := Table.of(evaluator, k, len(truth))).objects.sum()
    }


def _draw_photos(photos: int, tables: Iterable["Table"]) -> np.ndarray:
    """How often each photo is drawn, int [draws, photos]; always the same draws."""
    work = sum(table.right.size for table in tables) or 1
    draws = int(np.clip(WORK / work, FEWEST_DRAWS, DRAWS))
    random = np.random.default_rng(0)
    return random.multinomial(photos, np.full(photos, 1 / photos), size=draws)


def _means(precisions: dict[str, np.ndarray]) -> np.ndarray:
    """Both figures of each draw over all classes, [draws, 2]."""
    tables = np.array(list(precisions.values()))  # [classes, draws, 2]
    tables = tables[:, ~np.isnan(tables).all(axis=(0, 2))]  # a draw may have no object at all
    return np.nanmean(tables, axis=0)


def _intervals(differences: np.ndarray) -> tuple[Interval, Interval]:
    """Of both figures; [1 + draws, 2], the first row what is told."""
    low, high = np.nanpercentile(differences[1:], _ENDS, axis=0)
    both = zip(differences[0], low, high, strict=True)
    map50, map_ = (Interval(*map(float, ends)) for ends in both)
    return map50, map_


@dataclass(frozen=True)
class Table:
    """A class's detections in all photos, the best score first.

    recalls: the points at which COCO looks at the precision.
    right, false: bool [IoU, N]; neither for what found a difficult object.
    photo: int [N], the place of the photo of each.
    objects: int [photos], how many there are to find in each.
    """

    right: np.ndarray
    false: np.ndarray
    photo: np.ndarray
    objects: np.ndarray
    recalls: np.ndarray

    @classmethod
    def of(cls, evaluator: COCOeval, k: int, photos: int) -> "Table":
        """Class k's, of what pycocotools has matched in so many photos."""
        ious, objects = len(evaluator.params.iouThrs), np.zeros(photos, int)
        parts = [(np.zeros((ious, 0), bool), np.zeros((ious, 0), bool), np.zeros(0), np.zeros(0))]
        for each in filter(None, evaluator.evalImgs):
            if each["category_id"] != k:
                continue
            found, counts = each["dtMatches"] > 0, ~each["dtIgnore"].astype(bool)
            image, scores = each["image_id"], np.array(each["dtScores"], float)
            parts.append((found & counts, ~found & counts, np.full(len(scores), image), scores))
            objects[image] = np.count_nonzero(each["gtIgnore"] == 0)
        right, false, photo, scores = (
            np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)
        )
        order = np.argsort(-scores, kind="mergesort")  # as pycocotools does
        tables = right[:, order], false[:, order], photo[order].astype(int)
        return cls(*tables, objects, evaluator.params.recThrs)


def draw_precisions(table: Table, times: np.ndarray) -> np.ndarray:
    """AP@0.5 and AP@[.5:.95] of each draw, [draws, 2]; not a number where it has no object.

    times: int [draws, photos], how often each photo was drawn.
    """
    found = np.full((len(times), 2), np.nan)
    for row, drawn in enumerate(times):
        if objects := int(drawn @ table.objects):
            precisions = _average_precision(table, drawn[table.photo], objects)
            found[row] = precisions[0], precisions.mean()
    return found


def _average_precision(table: Table, weights: np.ndarray, objects: int) -> np.ndarray:
    """AP for each IoU, as COCOeval.accumulate computes it where each photo counts so many times."""
    right = np.cumsum(table.right * weights, axis=1)
    false = np.cumsum(table.false * weights, axis=1)
    precision = right / np.maximum(right + false, np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(precision, ((0, 0), (0, 1)))  # recall that is never reached
    places = [np.searchsorted(recall, table.recalls) for recall in right / objects]
    return np.array([row[place].mean() for row, place in zip(padded, places, strict=True)])


def _half_width(draws: np.ndarray) -> tuple[float, float]:
    """Of both figures, [draws, 2]."""
    low, high = np.nanpercentile(draws, _ENDS, axis=0)
    map50, map_ = (high - low) / 2
    return float(map50), float(map_)
