"""How far two models agree, by hand."""

import pytest

from client import Box, Detection
from serving.release.agreement import compute_iou, match_detections, measure_agreement


def found(label: str, score: float, *corners: float) -> Detection:
    return Detection(label, 0, score, Box(*corners))


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((0, 0, 10, 10), 1),
        ((0, 0, 5, 10), 0.5),
        ((5, 5, 15, 15), 25 / 175),
        ((10, 0, 20, 10), 0),  # touching
        ((-20, -20, -10, -10), 0),
        ((3, 3, 3, 3), 0),
    ],
)
def test_iou(corners: tuple[float, ...], expected: float) -> None:
    assert compute_iou(Box(0, 0, 10, 10), Box(*corners)) == pytest.approx(expected)
    assert compute_iou(Box(*corners), Box(0, 0, 10, 10)) == pytest.approx(expected)


def test_iou_without_areas() -> None:
    assert compute_iou(Box(1, 1, 1, 1), Box(1, 1, 1, 1)) == 0


def test_partners_are_one_to_one_and_the_best() -> None:
    first = [found("a", 0.9, 0, 0, 10, 10), found("a", 0.8, 0, 0, 10, 8)]
    second = [found("a", 0.7, 0, 0, 10, 8), found("b", 0.9, 0, 0, 10, 10)]
    assert match_detections(first, second) == [(1, 0)]
    assert match_detections([], second) == []


def test_agreement_by_hand() -> None:
    """Of 3 and 2 boxes one has a partner: 2 of 5; with a photo of two equal ones 4 of 7."""
    first = [found("a", 0.9, n, 0, n + 10, 10) for n in (0, 100, 200)]
    second = [found("a", 0.7, 0, 0, 10, 9), found("b", 0.9, 100, 0, 110, 10)]
    assert measure_agreement([(first, second)]) == pytest.approx((2 / 5, -0.2))
    assert measure_agreement([(first, second), (first[:1], first[:1])]) == pytest.approx(
        (4 / 7, -0.1)
    )
    assert measure_agreement([([], [])]) == (1, 0)
    assert measure_agreement([(first, [])]) == (0, 0)
    assert measure_agreement([]) == (None, 0)
