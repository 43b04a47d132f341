import numpy as np
import pytest

from training.errors import TrainingError
from training.evaluation import score
from training.evaluation.score import Detected, Truth

LABELS = ("cell", "speck")
BOXES = np.array([[10, 10, 50, 50], [60, 60, 90, 80]], np.float32)


def _truth(classes: list[int], difficult: list[bool] | None = None) -> Truth:
    count = len(classes)
    return Truth(
        "a", 100, 100, BOXES[:count], np.array(classes), np.array(difficult or [False] * count)
    )


def _detected(boxes: np.ndarray, classes: list[int], scores: list[float]) -> Detected:
    return Detected("a", boxes.reshape(-1, 4), np.array(scores), np.array(classes, int))


def test_nothing_detected() -> None:
    metrics = score.score_detections([_truth([0, 1])], [_detected(np.zeros(0), [], [])], LABELS)
    assert metrics.map50 == metrics.map == 0.0


def test_nothing_annotated() -> None:
    metrics = score.score_detections([_truth([])], [_detected(BOXES, [0, 1], [0.9, 0.8])], LABELS)
    assert metrics.per_class == {}


def test_nothing_to_measure() -> None:
    assert not score.is_measurable([_truth([]), _truth([0], [True])])
    assert score.is_measurable([_truth([]), _truth([0, 1], [True, False])])


def test_everything_right() -> None:
    metrics = score.score_detections(
        [_truth([0, 1])], [_detected(BOXES, [0, 1], [0.9, 0.8])], LABELS
    )
    assert (metrics.map50, metrics.map) == pytest.approx((1.0, 1.0))


def test_one_class_missed() -> None:
    metrics = score.score_detections([_truth([0, 1])], [_detected(BOXES[:1], [0], [0.9])], LABELS)
    assert metrics.per_class["speck"] == (0.0, 0.0)
    assert metrics.map50 == pytest.approx(0.5)


def test_a_shifted_box_counts_at_half_overlap_only() -> None:
    """40 of 48 columns overlap: IoU 0.714, right at the five thresholds up to 0.70."""
    shifted = BOXES[:1] + np.array([[8, 0, 8, 0]])
    metrics = score.score_detections([_truth([0])], [_detected(shifted, [0], [0.9])], LABELS)
    assert metrics.map50 == pytest.approx(1.0)
    assert metrics.map == pytest.approx(0.4)


def test_difficult_objects_are_neither_right_nor_wrong() -> None:
    truth = _truth([0, 0], [False, True])
    for boxes in (BOXES, BOXES[:1]):
        scores = [0.8, 0.9][: len(boxes)]
        metrics = score.score_detections(
            [truth], [_detected(boxes, [0] * len(boxes), scores)], LABELS
        )
        assert metrics.map50 == pytest.approx(1.0)


def test_matches_are_rows_of_the_truth() -> None:
    """Found at both IoUs, found at 0.5 only, found nothing."""
    boxes = np.concatenate([BOXES[:1], BOXES[1:] + np.array([[0, 0, 0, 10]]), [[0, 80, 9, 90]]])
    detected = _detected(boxes, [0, 1, 1], [0.9, 0.8, 0.7])
    metrics = score.score_detections([_truth([0, 1])], [detected], LABELS)
    assert metrics.matches["a"].tolist() == [[0, 1, -1], [0, -1, -1]]


def test_images_must_be_the_same() -> None:
    other = Detected("b", BOXES[:0], np.zeros(0), np.zeros(0, int))
    with pytest.raises(TrainingError, match="2 stand in only one of them, first 'a'"):
        score.score_detections([_truth([0])], [other], LABELS)
