import numpy as np
import pytest

from training.errors import TrainingError
from training.evaluation.operating_points import (
    THRESHOLDS,
    Wanted,
    find_point,
    points_table,
    read_wanted,
    wilson,
)
from training.evaluation.outcomes import Curve

# At 0.9 one is right, at 0.6 a second; at 0.4 one is false, at 0.2 the third is right; a fourth is
# missed.
CURVE = Curve(
    np.array([0.9, 0.6, 0.4, 0.2]), np.array([1, 2, 2, 3]), np.array([0, 0, 1, 1]), truths=4
)


@pytest.mark.parametrize(
    ("wanted", "threshold", "precision", "recall"),
    [
        (Wanted("precision", 0.9), 0.499, 1, 0.5),
        (Wanted("precision", 0.7), 0.104, 0.75, 0.75),
        (Wanted("recall", 0.5), 0.499, 1, 0.5),
        (Wanted("recall", 0.6), 0.104, 0.75, 0.75),
    ],
)
def test_the_most_of_the_other_rate(
    wanted: Wanted, threshold: float, precision: float, recall: float
) -> None:
    point = find_point(CURVE, wanted)
    assert point.is_reached
    assert point.threshold == pytest.approx(threshold, abs=0.0011)  # the middle
    assert (point.precision.value, point.recall.value) == (precision, recall)


def test_what_no_threshold_gives() -> None:
    wanted = Wanted("recall", 0.8)
    point = find_point(CURVE, wanted)
    assert not point.is_reached
    assert (point.recall.value, point.threshold) == (0.75, pytest.approx(0.104, abs=0.0011))
    assert "cell  0.10" in points_table({"cell": point}, wanted)
    assert points_table({"cell": point}, wanted).endswith("not reached at any threshold")


def test_a_class_that_is_never_detected() -> None:
    nothing = Curve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), truths=3)
    point = find_point(nothing, Wanted("precision", 0.9))
    assert not point.is_reached
    assert THRESHOLDS[0] <= point.threshold <= THRESHOLDS[-1]
    assert tuple(point.precision) == (0, 0, 1)
    assert point.recall.value == 0


def test_intervals_are_wilsons() -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I."""
    assert wilson(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0, 0.1611), abs=1e-4)
    assert wilson(29, 29) == pytest.approx((1, 0.8830, 1), abs=1e-4)


def test_one_of_the_two_is_wanted() -> None:
    assert read_wanted(None, None) is None
    assert read_wanted(None, 0) == Wanted("recall", 0)
    assert read_wanted(0.9, None) == Wanted("precision", 0.9)
    with pytest.raises(TrainingError, match="either --at-precision or --at-recall"):
        read_wanted(0.9, 0.9)
    with pytest.raises(TrainingError, match=r"--at-recall must be 0 to 1, got 90"):
        read_wanted(None, 90)
