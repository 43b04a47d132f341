"""The score threshold of each class that gives a wanted precision or recall, and what else then is.

Both are shares of counts, whose intervals are Wilson's ("Probable Inference, the Law of Succession,
and Statistical Inference", 1927): of few detections they are wide even where all are right. That
objects of one photo are found or missed together makes them, if anything, too narrow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from training.errors import TrainingError
from training.evaluation.outcomes import Curve

Rate = Literal["precision", "recall"]
# Of the score. Lower ones are not looked at (`measure.SCORE_THRESHOLD`).
THRESHOLDS = np.arange(10, 1000) / 1000
_Z = 1.96  # standard deviations on either side: 95%


class Share(NamedTuple):
    """A share of a count, 0 to 1, and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every class: a precision or a recall of so much, 0 to 1."""

    rate: Rate
    least: float


@dataclass(frozen=True)
class OperatingPoint:
    """A class at a score threshold.

    is_reached: whether it has what was wanted; else the threshold is where it comes nearest.
    """

    threshold: float
    precision: Share
    recall: Share
    is_reached: bool

    def to_dict(self) -> dict[str, object]:
        """For reports and the card."""
        shares = {"precision": self.precision, "recall": self.recall}
        return {
            "score_threshold": self.threshold,
            **{name: share._asdict() for name, share in shares.items()},
            "is_reached": self.is_reached,
        }


def read_wanted(precision: float | None, recall: float | None) -> Wanted | None:
    """What --at-precision and --at-recall say.

    Raises:
        TrainingError: both are given, or one is no share.
    """
    if precision is not None and recall is not None:
        raise TrainingError("give either --at-precision or --at-recall: one follows from the other")
    wanted = (
        Wanted("recall", recall or 0.0) if precision is None else Wanted("precision", precision)
    )
    if not 0 <= wanted.least <= 1:
        raise TrainingError(f"--at-{wanted.rate} must be 0 to 1, got {wanted.least:g}")
    return None if precision is recall is None else wanted


def find_point(curve: Curve, wanted: Wanted) -> OperatingPoint:
    """The threshold with the wanted rate and the most of the other one.

    Of several equal ones the middle, which is farthest from where anything changes. curve: at an
    IoU of 0.5, of a class with objects.
    """
    rates = curve.at(THRESHOLDS)
    shown = rates.right + rates.false
    other = rates.recall if wanted.rate == "precision" else rates.precision
    # A precision of nothing is none.
    had = np.where(shown > 0, getattr(rates, wanted.rate), 0.0)
    reached = had >= wanted.least
    worth = np.where(reached, other, -1.0) if reached.any() else had
    best = np.flatnonzero(worth == worth.max())
    at = best[len(best) // 2]
    return OperatingPoint(
        float(THRESHOLDS[at]),
        wilson(int(rates.right[at]), int(shown[at])),
        wilson(int(rates.right[at]), curve.truths),
        bool(reached[at]),
    )


def wilson(hits: int, count: int) -> Share:
    """A share with its interval; of nothing it may be anything."""
    if not count:
        return Share(0.0, 0.0, 1.0)
    share, square = hits / count, _Z**2 / count
    middle = (share + square / 2) / (1 + square)
    reach = _Z * np.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return Share(share, max(0.0, float(middle - reach)), min(1.0, float(middle + reach)))


def points_table(points: Mapping[str, OperatingPoint], wanted: Wanted) -> str:
    """A line for each class, by label."""
    width = max(len(label) for label in points)
    lines = [f"for a {wanted.rate} of {wanted.least:g}  score threshold, precision, recall"]
    for label, point in points.items():
        text = f"{label:{width}}  {point.threshold:.3f}  {point.precision}  {point.recall}"
        lines.append(text if point.is_reached else f"{text}  not reached at any threshold")
    return "\n".join(lines)
