"""The permutation test keeps its rate of false alarms, and notices what is systematic."""

import numpy as np
import pytest

from training.evaluation.score import Detected, Metrics, Truth, score_detections
from training.vetting import disagreement
from training.vetting.disagreement import ALPHA, RATIOS, compare_disagreements

BOXES = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)


def _count(truth: Truth, detected: Detected) -> np.ndarray:
    metrics: Metrics = score_detections([truth], [detected], ("a", "b"))
    return disagreement.count_disagreements([truth], [detected], metrics, 2, 0.5)[0]


def test_a_photo_of_nothing() -> None:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, int)
    truth = Truth("1", 60, 20, *nothing, np.zeros(0, bool))
    counts = _count(truth, Detected("1", nothing[0], np.zeros(0, np.float32), nothing[1]))
    assert counts.shape == (2, 3, 2)
    assert not counts.any()
    assert compare_disagreements(counts[None], counts[None], ("a", "b"))[0].increase == 0


def test_what_counts_in_a_photo() -> None:
    """One taken for b, one loose (IoU 0.6), one missed; a detection on nothing, one not shown."""
    truth = Truth("1", 60, 20, BOXES, np.array([0, 0, 0]), np.zeros(3, bool))
    boxes = np.array(
        [[0, 0, 10, 10], [22.5, 0, 32.5, 10], [0, 12, 9, 19], [40, 0, 50, 10]], np.float32
    )
    scores, classes = np.array([0.9, 0.8, 0.7, 0.4], np.float32), np.array([1, 0, 1, 0])
    counts = _count(truth, Detected("1", boxes, scores, classes))
    assert dict(zip(RATIOS, counts[0].tolist(), strict=True)) == {
        "other label": [1, 2],
        "loose": [1, 1],
        "not annotated": [0, 1],
    }
    assert counts[1].tolist() == [[0, 0], [0, 0], [1, 2]]


def _draw(rng: np.random.Generator, photos: int, mean: float) -> np.ndarray:
    """Photos of 20 objects; how many are odd varies from photo to photo far more than by chance."""
    counts = np.zeros((photos, 8, 3, 2), int)
    counts[..., 1] = 20
    counts[..., 0] = rng.binomial(20, rng.beta(mean, 1 - mean, counts.shape[:3]))
    return counts


@pytest.mark.parametrize(("mean", "least", "most"), [(0.1, 0, 4), (0.4, 58, 60)])
def test_alarms(mean: float, least: int, most: int) -> None:
    """Of 60 pairs of 40 photos: 24 ratios of 8 classes each, of one pot, or of another one.

    With a rate of 1% more than 4 false alarms have a chance of 0.04%.
    """
    rng, labels = np.random.default_rng(0), tuple("abcdefgh")
    alarms = sum(
        any(
            ratio.p <= ALPHA
            for ratio in compare_disagreements(_draw(rng, 40, mean), _draw(rng, 40, 0.1), labels)
        )
        for _ in range(60)
    )
    assert least <= alarms <= most
