import dataclasses

import numpy as np
import pytest

from tests.training.evaluation.test_spread import LABELS, make_photos
from training.evaluation import score
from training.evaluation.outcomes import Judged
from training.evaluation.reliability import (
    expected_error,
    fill_bins,
    fit_calibration,
    measure_reliability,
)
from training.network.calibration import Calibration


def draw(scores_of: Calibration, count: int = 20_000) -> Judged:
    """Detections of 100 photos whose probability to be right is the calibrated score."""
    random = np.random.default_rng(0)
    scores = random.uniform(0.02, 0.98, count)
    right = random.random(count) < scores_of.calibrate(scores)
    return Judged(np.arange(count) % 100, np.zeros(count, int), scores, right)


def test_the_error_by_hand() -> None:
    bins = fill_bins(np.array([0.31, 0.39, 0.9, 1.0]), np.array([True, False, True, True]))
    assert bins[3].tolist() == pytest.approx([2, 0.35, 0.5])
    assert bins[9].tolist() == pytest.approx([2, 0.95, 1.0])
    assert expected_error(bins) == pytest.approx((0.15 + 0.05) / 2)
    assert expected_error(fill_bins(np.zeros(0), np.zeros(0, bool))) == 0


def test_what_was_done_to_scores_is_found_and_undone() -> None:
    judged = draw(Calibration(0.5, 1.0))
    found = measure_reliability(judged)
    assert found
    assert found.calibration == pytest.approx((0.5, 1.0), abs=0.05)
    assert found.error > 0.1
    assert found.calibrated_error < 0.02


def test_without_a_score_from_the_least_no_error_is_told() -> None:
    found = measure_reliability(draw(Calibration()))
    assert found
    empty = dataclasses.replace(found, bins=fill_bins(np.zeros(0), np.zeros(0, bool)))
    assert str(empty) == "no score reaches 0.3: the calibration error is not told"


def test_probabilities_stay() -> None:
    found = measure_reliability(draw(Calibration()))
    assert found
    assert found.calibration == pytest.approx((1, 0), abs=0.05)
    assert found.error < 0.02


def test_a_score_that_parts_right_from_false_has_no_endless_temperature() -> None:
    scores = np.linspace(0.01, 0.99, 100)
    found = fit_calibration(scores, scores > 0.5)
    assert found
    assert 0.01 < found.temperature < 1


def test_of_few_or_senseless_scores_nothing_is_fitted() -> None:
    scores = np.linspace(0.01, 0.99, 100)
    assert fit_calibration(scores, scores > 0.92) is None
    assert fit_calibration(scores, scores < 0.5) is None
    assert measure_reliability(draw(Calibration(), 30)) is None
    assert measure_reliability(draw(Calibration(), 0)) is None


def test_map_is_what_it_was() -> None:
    truth, detected = make_photos(12)
    found = [
        score.Detected(
            x.image_id, x.boxes_xyxy, Calibration(0.4, 0.8).calibrate(x.scores), x.classes
        )
        for x in detected
    ]
    before, after = (score.score_detections(truth, each, LABELS) for each in (detected, found))
    assert after == before
    assert before.map50 > 0
