"""Where annotations and a network disagree, photo by photo, and whether new photos do so more.

Three ratios a class, none of which falls with how little of the new photos the network finds:

    other label     objects that it takes for another class, of those it finds (IoU 0.5 or more)
    loose           found objects whose IoU is below 0.75, of those of the same label
    not annotated   detections where nothing is annotated, of all detections

The test is a permutation test over photos, for the objects of one photo are alike: if new and
trusted photos were drawn from one pot, which are the new ones is chance. It is one-sided, and the
largest difference of all classes and ratios, in standard deviations, is compared with the largest
of each permutation (Westfall and Young, 1993, maxT): of good batches a share of ALPHA is refused at
most, however many classes there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.evaluation.outcomes import outcome
from training.evaluation.score import Detected, Metrics, Truth

ALPHA = 0.01  # of good batches that are refused
FEW = 10  # objects or detections of a class, on either side, that tell nothing
PERMUTATIONS = 4999
_CHUNK = 500  # permutations at once
RATIOS = ("other label", "loose", "not annotated")


@dataclass(frozen=True)
class Ratio:
    """One class's ratio: its name, its numerator and denominator in the new and trusted photos.

    p: the chance of a largest difference like this one, if all photos were of one pot.
    """

    label: str
    name: str
    new: tuple[int, int]
    trusted: tuple[int, int]
    p: float

    @property
    def increase(self) -> float:
        """By how much it is higher in the new photos, -1 to 1; 0 where one side has too few."""
        (a, n), (b, m) = self.new, self.trusted
        return a / n - b / m if min(n, m) >= FEW else 0.0


def count_disagreements(
    truth: list[Truth], detected: list[Detected], metrics: Metrics, classes: int, threshold: float
) -> np.ndarray:
    """int [photos, classes, 3 ratios, numerator and denominator], of detections above a score."""
    rows = zip(truth, detected, strict=True)
    counted = [
        _count(*each, metrics.matches[each[0].image_id], classes, threshold) for each in rows
    ]
    return np.array(counted, int).reshape(-1, classes, len(RATIOS), 2)


def _count(
    truth: Truth, detected: Detected, matches: np.ndarray, classes: int, threshold: float
) -> np.ndarray:
    """int [classes, 3, 2] of one photo; `matches` as in `Metrics`."""
    found, close = (outcome(truth, detected, row, threshold) for row in matches)
    shown = detected.classes[found.shown]
    taken = truth.classes[[row for row, _ in found.confused]]
    alone = found.false.copy()
    alone[[place for _, place in found.confused]] = False
    right = shown[found.right]
    counts = (
        (taken, np.concatenate([taken, right])),
        (shown[found.right & ~close.right], right),
        (shown[alone], shown),
    )
    numbers = [[np.bincount(each, minlength=classes) for each in pair] for pair in counts]
    return np.array(numbers).transpose(2, 0, 1)


def compare_disagreements(
    new: np.ndarray, trusted: np.ndarray, labels: tuple[str, ...], seed: int = 0
) -> list[Ratio]:
    """Every class's ratios, as `count_disagreements` gives them for both."""
    both = np.concatenate([new, trusted])
    ours = np.arange(len(both)) < len(new)
    observed = _deviations(both, ours[None])[0]  # [classes, 3]
    largest = np.concatenate(
        [_deviations(both, each).max(axis=(1, 2)) for each in _deal(ours, seed)]
    )
    sums = [each.sum(axis=0).tolist() for each in (new, trusted)]  # [classes][3][2]
    return [
        Ratio(label, name, mine, theirs, float((1 + (largest >= z).sum()) / (1 + len(largest))))
        for label, *rows in zip(labels, *sums, observed, strict=True)
        for name, mine, theirs, z in zip(RATIOS, *rows, strict=True)
    ]


def _deal(ours: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Which photos are the new ones in each permutation: bool [some, photos]."""
    rng = np.random.default_rng(seed)
    for start in range(0, PERMUTATIONS, _CHUNK):
        rows = min(_CHUNK, PERMUTATIONS - start)
        yield rng.permuted(np.tile(ours, (rows, 1)), axis=1)


def _deviations(counts: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """How many standard deviations the ratios of ours are above the others': [some, classes, 3].

    counts: int [photos, classes, 3, 2]; ours: bool [some, photos].
    """
    flat = counts.reshape(len(counts), -1).astype(float)
    of_ours = (ours.astype(float) @ flat).reshape(len(ours), *counts.shape[1:])
    total = counts.sum(axis=0)
    a, n = of_ours[..., 0], of_ours[..., 1]
    b, m = total[..., 0] - a, total[..., 1] - n
    shares = total[..., 0] / np.maximum(total[..., 1], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(shares * (1 - shares) * (1 / n + 1 / m))
        return np.nan_to_num((a / n - b / m) / deviation, nan=0.0, posinf=0.0, neginf=0.0)
