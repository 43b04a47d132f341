import json
from pathlib import Path

import numpy as np
import pytest

from training import evaluate
from training.errors import TrainingError
from training.evaluate import Detected, Truth

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
    metrics = evaluate.score([_truth([0, 1])], [_detected(np.zeros(0), [], [])], LABELS)
    assert metrics.map50 == metrics.map == 0.0


def test_nothing_annotated() -> None:
    metrics = evaluate.score([_truth([])], [_detected(BOXES, [0, 1], [0.9, 0.8])], LABELS)
    assert metrics.per_class == {}


def test_everything_right() -> None:
    metrics = evaluate.score([_truth([0, 1])], [_detected(BOXES, [0, 1], [0.9, 0.8])], LABELS)
    assert (metrics.map50, metrics.map) == pytest.approx((1.0, 1.0))


def test_one_class_missed() -> None:
    metrics = evaluate.score([_truth([0, 1])], [_detected(BOXES[:1], [0], [0.9])], LABELS)
    assert metrics.per_class["speck"] == (0.0, 0.0)
    assert metrics.map50 == pytest.approx(0.5)


def test_a_shifted_box_counts_at_half_overlap_only() -> None:
    """40 of 48 columns overlap: IoU 0.714, right at the five thresholds up to 0.70."""
    shifted = BOXES[:1] + np.array([[8, 0, 8, 0]])
    metrics = evaluate.score([_truth([0])], [_detected(shifted, [0], [0.9])], LABELS)
    assert metrics.map50 == pytest.approx(1.0)
    assert metrics.map == pytest.approx(0.4)


def test_difficult_objects_are_neither_right_nor_wrong() -> None:
    truth = _truth([0, 0], [False, True])
    for boxes in (BOXES, BOXES[:1]):
        scores = [0.8, 0.9][: len(boxes)]
        metrics = evaluate.score([truth], [_detected(boxes, [0] * len(boxes), scores)], LABELS)
        assert metrics.map50 == pytest.approx(1.0)


def test_images_must_be_the_same() -> None:
    other = Detected("b", BOXES[:0], np.zeros(0), np.zeros(0, int))
    with pytest.raises(TrainingError, match="2 stand in only one of them, first 'a'"):
        evaluate.score([_truth([0])], [other], LABELS)


def test_detections_are_read_from_the_clients_json(tmp_path: Path) -> None:
    box = {"x1": 10, "y1": 10, "x2": 50, "y2": 50}
    row = {"label": "speck", "class_id": 1, "score": 0.5, "box": box}
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([{"file": "photos/a.jpg", "detections": [row]}]))
    (found,) = evaluate.read_detections(path, LABELS)
    assert found.image_id == "a"
    assert found.classes.tolist() == [1]
    np.testing.assert_array_equal(found.boxes_xyxy, BOXES[:1])


def test_a_photo_without_an_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([{"file": "a.jpg", "error": "truncated JPEG"}]))
    with pytest.raises(TrainingError, match=r"a\.jpg has no detections: truncated JPEG"):
        evaluate.read_detections(path, LABELS)


@pytest.mark.parametrize("text", ["", "3", "[3]", '[{"file": "a.jpg"}]'])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "detections.json"
    path.write_text(text)
    with pytest.raises(TrainingError, match="expected the output of `python -m client detect"):
        evaluate.read_detections(path, LABELS)
