import numpy as np
import pytest

from training.evaluation import outcomes, score
from training.evaluation.score import Detected, Truth

LABELS = ("cell", "speck")
BOXES = np.array([[10, 10, 50, 50], [60, 60, 90, 80], [5, 70, 35, 95]], np.float32)


def _truth(classes: list[int], difficult: tuple[int, ...] = (), image_id: str = "a") -> Truth:
    """BOXES with these classes; `difficult` are rows."""
    flags = np.isin(np.arange(len(classes)), difficult)
    return Truth(image_id, 100, 100, BOXES[: len(classes)], np.array(classes, int), flags)


def _detected(rows: list[tuple[int, int, float]], image_id: str = "a") -> Detected:
    """Rows of (which of BOXES, class, score)."""
    table = np.array(rows, float).reshape(-1, 3)
    boxes, classes = table[:, :2].astype(int).T
    return Detected(image_id, BOXES[boxes], table[:, 2], classes)


def _outcome(truth: Truth, detected: Detected, threshold: float = 0.5) -> outcomes.Outcome:
    matches = score.score_detections([truth], [detected], LABELS).matches
    return outcomes.outcome(truth, detected, matches[truth.image_id][0], threshold)


def _curves(
    truth: list[Truth], detected: list[Detected], iou: float = 0.5
) -> dict[int, outcomes.Curve]:
    return outcomes.curves(truth, detected, score.score_detections(truth, detected, LABELS), iou)


def test_nothing_annotated_and_nothing_detected() -> None:
    one = _outcome(_truth([]), _detected([]))
    assert one.mistakes == 0
    assert _curves([_truth([])], [_detected([])]) == {}
    assert outcomes.best_threshold([]) == 0.5
    assert outcomes.confusion([_truth([])], {"a": _detected([])}, {"a": one}, 2).sum() == 0
    assert outcomes.worst({"a": one}, 20) == []


def test_right_missed_and_false() -> None:
    one = _outcome(_truth([0, 1]), _detected([(0, 0, 0.9), (2, 1, 0.8)]))
    assert one.right.tolist() == [True, False]
    assert one.false.tolist() == [False, True]
    assert one.missed.tolist() == [False, True]
    assert one.confused == ()
    assert one.mistakes == 2


def test_below_the_threshold_nothing_is_shown() -> None:
    one = _outcome(_truth([0]), _detected([(0, 0, 0.5)]))  # above, as the server does it
    assert (len(one.shown), one.missed.tolist()) == (0, [True])


def test_an_object_is_found_once() -> None:
    one = _outcome(_truth([0]), _detected([(0, 0, 0.9), (0, 0, 0.8)]))
    assert one.right.tolist() == [True, False]
    assert one.false.tolist() == [False, True]


def test_difficult_objects_are_neither_right_nor_wrong() -> None:
    truth = _truth([0, 1], difficult=(0,))
    for rows in ([(0, 0, 0.9), (1, 1, 0.9)], [(1, 1, 0.9)]):
        detected = _detected(rows)
        one = _outcome(truth, detected)
        assert one.mistakes == 0
        assert outcomes.confusion([truth], {"a": detected}, {"a": one}, 2).tolist() == [
            [0, 0, 0], [0, 1, 0], [0, 0, 0]
        ]  # fmt: skip
        assert _curves([truth], [detected])[1].truths == 1
        assert sum(c.truths for c in _curves([truth], [detected]).values()) == 1


def test_one_class_taken_for_another() -> None:
    truth, detected = _truth([0, 1, 1]), _detected([(0, 1, 0.9), (1, 1, 0.8), (2, 0, 0.4)])
    one = _outcome(truth, detected)
    assert one.confused == ((0, 0),)
    assert outcomes.confusion([truth], {"a": detected}, {"a": one}, 2).tolist() == [
        [0, 1, 0],  # the cell, taken for a speck
        [0, 1, 1],  # one speck found, one missed
        [0, 0, 0],
    ]


def test_the_best_score_takes_the_confused_object() -> None:
    truth = _truth([0])
    detected = _detected([(0, 1, 0.7), (0, 1, 0.9)])
    one = _outcome(truth, detected)
    assert one.confused == ((0, 1),)
    assert outcomes.confusion([truth], {"a": detected}, {"a": one}, 2)[2].tolist() == [0, 1, 0]


def test_worst_images_first() -> None:
    good = _outcome(_truth([0]), _detected([(0, 0, 0.9)]))
    bad = _outcome(_truth([0]), _detected([]))
    worse = _outcome(_truth([0]), _detected([(1, 0, 0.9)]))
    images = {"good": good, "b": bad, "a": bad, "worse": worse}
    assert outcomes.worst(images, 20) == ["worse", "a", "b"]
    assert outcomes.worst(images, 1) == ["worse"]


def test_equal_scores_are_one_point() -> None:
    detected = _detected([(0, 0, 0.7), (1, 0, 0.7), (2, 0, 0.2)])
    curve = _curves([_truth([0, 1, 0])], [detected])[0]
    assert curve.scores.tolist() == [0.7, 0.2]
    assert (curve.right.tolist(), curve.false.tolist()) == ([1, 2], [1, 1])


def test_rates_at_thresholds() -> None:
    curve = _curves([_truth([0, 0, 0])], [_detected([(0, 0, 0.9), (1, 0, 0.4)])])[0]
    rates = curve.at(np.array([0.0, 0.4, 0.95]))
    np.testing.assert_allclose(rates.recall, [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(rates.precision, [1, 1, 1])
    np.testing.assert_allclose(rates.f1, [0.8, 0.5, 0])


def test_the_best_threshold_is_in_the_middle_of_the_best() -> None:
    curve = _curves([_truth([0])], [_detected([(0, 0, 0.8), (1, 0, 0.4)])])[0]
    assert outcomes.best_threshold([curve]) == pytest.approx(0.6)


@pytest.mark.parametrize("iou", score.IOUS)
def test_the_area_under_the_envelope_is_cocos_average_precision(iou: float) -> None:
    rng = np.random.default_rng(0)
    truth, detected = [], []
    for number in range(20):
        low = rng.uniform(0, 60, (8, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 40, (8, 2))], axis=1).astype(np.float32)
        classes, difficult = rng.integers(0, 2, 8), rng.random(8) < 0.1
        truth.append(Truth(str(number), 100, 100, boxes, classes, difficult))
        scores, moved = rng.random(8), boxes + rng.normal(0, 2.5, boxes.shape)
        detected.append(Detected(str(number), moved, scores, classes[rng.permutation(8)]))
    metrics = score.score_detections(truth, detected, LABELS)
    evaluator = score.match_objects(truth, detected, LABELS)
    precision = evaluator.eval["precision"][0 if iou == 0.5 else 5, :, :, 0, 0].mean(axis=0)
    for k, curve in outcomes.curves(truth, detected, metrics, iou).items():
        recall, best = curve.envelope()
        points = np.searchsorted(recall, np.linspace(0, 1, 101))
        assert np.append(best, 0)[points].mean() == pytest.approx(precision[k], abs=1e-6)


def test_matches_name_rows_whatever_the_order_of_the_images() -> None:
    truth = [_truth([0, 1], image_id="a"), _truth([1, 1, 0], image_id="b")]
    detected = [
        _detected([(2, 0, 0.3), (1, 1, 0.9)], "b"),
        _detected([(2, 0, 0.5), (0, 0, 0.4)], "a"),
    ]
    matches = score.score_detections(truth, detected, LABELS).matches
    assert matches["b"].tolist() == [[2, 1]] * 2
    assert matches["a"].tolist() == [[score.NO_OBJECT, 0]] * 2


def test_iou() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 5]], float)
    np.testing.assert_allclose(outcomes.iou(boxes, boxes)[:2, :2], [[1, 1 / 3], [1 / 3, 1]])
    assert outcomes.iou(boxes, boxes)[2, 2] == 0
    assert outcomes.iou(boxes[:0], boxes).shape == (0, 3)
