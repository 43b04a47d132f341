"""What became of every detection and every annotated object, from the matches behind mAP.

A detection is *shown* where its score is above a threshold, as the server does it. A shown one is
*right* where it found an object of its class at an IoU of 0.5, *ignored* where that object is
marked difficult, else *false*. An object that no shown detection found is *missed*, unless it is
difficult. The matches are pycocotools' own (`Metrics.matches`), best score first: a lower
threshold only adds some, and every figure here agrees with mAP.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training.evaluation.score import IOUS, NO_OBJECT, Detected, Metrics, Truth

THRESHOLDS = np.linspace(0.0, 1.0, 101)  # of the score, those that advice is chosen from


@dataclass(frozen=True)
class Curve:
    """One class at one IoU, as the score threshold falls from one score to the next lower one.

    scores: float [P], falling, each once; right, false: int [P], how many reach that score.
    truths: objects to be found, without the difficult ones.
    """

    scores: np.ndarray
    right: np.ndarray
    false: np.ndarray
    truths: int

    def at(self, thresholds: np.ndarray) -> "Rates":
        """Counts and rates at score thresholds [T]."""
        points = np.searchsorted(-self.scores, -thresholds, side="left")
        right, false = (np.append(0, counts)[points] for counts in (self.right, self.false))
        return Rates(right, false, self.truths - right)

    def envelope(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall [1 + P], from 0, and the best precision at that one or a higher: COCO's curve."""
        rates = Rates(self.right, self.false, self.truths - self.right)
        best = np.maximum.accumulate(rates.precision[::-1])[::-1]
        return np.append(0.0, rates.recall), np.append(best[0] if len(best) else 0.0, best)


class Judged(NamedTuple):
    """The detections of a split, [N] each, without those of difficult objects."""

    photos: np.ndarray  # int, the place of the photo of each
    classes: np.ndarray
    scores: np.ndarray
    right: np.ndarray  # bool


@dataclass(frozen=True)
class Rates:
    """Counts int [T] at T score thresholds; a rate of nothing is 0, a precision of nothing 1."""

    right: np.ndarray
    false: np.ndarray
    missed: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        shown = self.right + self.false
        return np.where(shown > 0, self.right / np.maximum(shown, 1), 1.0)

    @property
    def recall(self) -> np.ndarray:
        return self.right / np.maximum(self.right + self.missed, 1)

    @property
    def f1(self) -> np.ndarray:
        return 2 * self.right / np.maximum(2 * self.right + self.false + self.missed, 1)


@dataclass(frozen=True)
class Outcome:
    """One image at one score threshold.

    shown: int [S], rows of its detections; right, false: bool [S], neither where ignored.
    missed: bool [N], of its objects.
    confused: (object, place in `shown`), missed and false, that overlap: one taken for the other.
    """

    shown: np.ndarray
    right: np.ndarray
    false: np.ndarray
    missed: np.ndarray
    confused: tuple[tuple[int, int], ...]

    @property
    def mistakes(self) -> int:
        return int(self.missed.sum() + self.false.sum())


def curves(
    truth: Iterable[Truth], detected: Iterable[Detected], metrics: Metrics, iou: float = 0.5
) -> dict[int, Curve]:
    """The curve of every class that has objects to be found or detections."""
    truth = list(truth)
    _, classes, scores, right = judge(truth, detected, metrics, iou)
    truths = [image.classes[~image.difficult] for image in truth]
    wanted = np.concatenate([np.zeros(0, int), *truths])
    return {
        int(k): _curve(scores[classes == k], right[classes == k], int((wanted == k).sum()))
        for k in np.union1d(classes, wanted)
    }


def judge(
    truth: Iterable[Truth], detected: Iterable[Detected], metrics: Metrics, iou: float = 0.5
) -> Judged:
    """Whether each detection is right, whatever its score."""
    objects, rows = {image.image_id: image for image in truth}, [np.zeros((4, 0))]
    for place, image in enumerate(detected):
        found = metrics.matches[image.image_id][IOUS.index(iou)]
        kept = ~_difficult(objects[image.image_id], found)
        places = np.full(len(found), place)
        row = np.stack([places, image.classes, image.scores, found != NO_OBJECT])
        rows.append(row[:, kept])
    photos, classes, scores, right = np.concatenate(rows, axis=1)
    return Judged(photos.astype(int), classes.astype(int), scores, right > 0)


def _curve(scores: np.ndarray, right: np.ndarray, truths: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    last = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # of equal scores
    return Curve(scores[last], np.cumsum(right)[last], np.cumsum(~right)[last], truths)


def best_threshold(curves: Iterable[Curve]) -> float:
    """The score threshold with the highest F1, the mean over the curves that have objects.

    Of several equal ones the middle, which is farthest from where F1 falls.
    """
    f1 = [curve.at(THRESHOLDS).f1 for curve in curves if curve.truths]
    mean = np.mean(f1, axis=0) if f1 else np.zeros(len(THRESHOLDS))
    best = np.flatnonzero(mean >= mean.max() - 1e-9)
    return float(THRESHOLDS[best[len(best) // 2]])


def outcome(truth: Truth, detected: Detected, found: np.ndarray, threshold: float) -> Outcome:
    """One image at a score threshold; `found` is its row of `Metrics.matches` at an IoU of 0.5."""
    shown = np.flatnonzero(detected.scores > threshold)
    found = found[shown]
    ignored = _difficult(truth, found)
    right = (found != NO_OBJECT) & ~ignored
    missed = ~truth.difficult.copy()
    missed[found[right]] = False
    false = ~right & ~ignored
    return Outcome(shown, right, false, missed, _confused(truth, detected, shown, false, missed))


def _difficult(truth: Truth, found: np.ndarray) -> np.ndarray:
    """Whether what each detection found is a difficult object. [N] -> bool [N]"""
    return (found != NO_OBJECT) & np.append(truth.difficult, False)[found]


def _confused(
    truth: Truth, detected: Detected, shown: np.ndarray, false: np.ndarray, missed: np.ndarray
) -> tuple[tuple[int, int], ...]:
    """Best score first, each false detection takes the missed object that it overlaps most."""
    pairs, free = [], missed.copy()
    overlap = iou(truth.boxes_xyxy, detected.boxes_xyxy[shown])  # [N, S]
    for place in np.flatnonzero(false)[np.argsort(-detected.scores[shown][false], kind="stable")]:
        candidates = np.where(free, overlap[:, place], 0.0)
        if candidates.size and candidates.max() >= IOUS[0]:
            pairs.append((int(candidates.argmax()), int(place)))
            free[pairs[-1][0]] = False
    return tuple(pairs)


def iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """IoU of every box of [N, 4] with every one of [M, 4]: [N, M], 0 where both are empty."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    intersection = np.prod(np.maximum(high - low, 0.0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (a_xyxy, b_xyxy)]
    union = areas[0][:, None] + areas[1][None] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def confusion(
    truth: Iterable[Truth],
    detected: dict[str, Detected],
    outcomes: dict[str, Outcome],
    classes: int,
) -> np.ndarray:
    """int [C + 1, C + 1]: row what it is, column what it was taken for; the last is background.

    The diagonal holds the right detections. An object that was confused counts once, in its own
    class's row; the other missed ones stand in the last column, the other false ones in the last
    row.
    """
    matrix = np.zeros((classes + 1, classes + 1), int)
    for image in truth:
        one, found = outcomes[image.image_id], detected[image.image_id].classes
        objects, places = np.array(one.confused, int).reshape(-1, 2).T
        missed, false = np.flatnonzero(one.missed), np.flatnonzero(one.false)
        right = found[one.shown[one.right]]
        np.add.at(matrix, (right, right), 1)
        np.add.at(matrix, (image.classes[objects], found[one.shown[places]]), 1)
        np.add.at(matrix, (image.classes[np.setdiff1d(missed, objects)], classes), 1)
        np.add.at(matrix, (classes, found[one.shown[np.setdiff1d(false, places)]]), 1)
    return matrix


def worst(outcomes: dict[str, Outcome], most: int) -> list[str]:
    """Image ids with the most mistakes, missed and false together; none without a mistake.

    Of equally many first those with fewer right detections, then by id.
    """
    ranks = {
        image_id: (-one.mistakes, int(one.right.sum()), image_id)
        for image_id, one in outcomes.items()
        if one.mistakes
    }
    return sorted(ranks, key=ranks.__getitem__)[:most]
