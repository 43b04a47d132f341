import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training.data import records
from training.errors import TrainingError
from training.evaluation import evaluate
from training.evaluation.evaluate import Detected, Truth

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


def test_nothing_to_measure() -> None:
    assert not evaluate.is_measurable([_truth([]), _truth([0], [True])])
    assert evaluate.is_measurable([_truth([]), _truth([0, 1], [True, False])])


def test_split_with_nothing_to_measure(test_data: Path, tmp_path: Path) -> None:
    """mAP was 0.000, as of a network that finds nothing."""
    folder = test_data / "cases/T5-val-empty"
    assert records.run(records.RecordsSettings((folder,), tmp_path)) == 0
    settings = evaluate.EvaluateSettings(tmp_path, detections=tmp_path / "none.json")
    with pytest.raises(TrainingError, match="nothing to measure: none of the 2 images of val"):
        evaluate.run(settings)


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


def test_matches_are_rows_of_the_truth() -> None:
    """Found at both IoUs, found at 0.5 only, found nothing."""
    boxes = np.concatenate([BOXES[:1], BOXES[1:] + np.array([[0, 0, 0, 10]]), [[0, 80, 9, 90]]])
    detected = _detected(boxes, [0, 1, 1], [0.9, 0.8, 0.7])
    metrics = evaluate.score([_truth([0, 1])], [detected], LABELS)
    assert metrics.matches["a"].tolist() == [[0, 1, -1], [0, -1, -1]]


def test_images_must_be_the_same() -> None:
    other = Detected("b", BOXES[:0], np.zeros(0), np.zeros(0, int))
    with pytest.raises(TrainingError, match="2 stand in only one of them, first 'a'"):
        evaluate.score([_truth([0])], [other], LABELS)


def test_detections_are_read_from_the_clients_json(tmp_path: Path) -> None:
    box = {"x1": 10, "y1": 10, "x2": 50, "y2": 50}
    row = {"label": "speck", "class_id": 1, "score": 0.5, "box": box}
    path = tmp_path / "detections.json"
    photo = {"file": "photos/a.jpg", "width": 200, "height": 300, "detections": [row]}
    path.write_text(json.dumps([photo]))
    (found,) = evaluate.read_detections(path, LABELS)
    assert found.image_id == "a"
    assert found.classes.tolist() == [1]
    np.testing.assert_array_equal(found.boxes_xyxy, BOXES[:1])
    # The server saw the photo as it is; the records may hold a smaller one.
    stored = dataclasses.replace(_truth([0]), width=100, height=100)
    (found,) = evaluate.read_detections(path, LABELS, [stored])
    np.testing.assert_allclose(found.boxes_xyxy, [[5, 10 / 3, 25, 50 / 3]], rtol=1e-6)


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


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_an_iou_out_of_range_is_refused(tmp_path: Path, value: float) -> None:
    settings = evaluate.EvaluateSettings(tmp_path, run=tmp_path, iou_threshold=value)
    with pytest.raises(TrainingError, match="--iou-threshold must be 0 to 1, got"):
        evaluate.run(settings)


def test_a_foreign_report_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    settings = evaluate.EvaluateSettings(tmp_path / "none", run=tmp_path, report=tmp_path)
    with pytest.raises(TrainingError, match=r"holds mine.txt, which is no part of a report"):
        evaluate.run(settings)


def _two_boxes(images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Two boxes whose IoU is 0.5, on every image."""
    count = tf.shape(images)[0]
    boxes = tf.constant([[[0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.8]]])
    scores = tf.constant([[[0.9], [0.8]]])
    return {"boxes": tf.tile(boxes, [count, 1, 1]), "scores": tf.tile(scores, [count, 1, 1])}


@pytest.mark.parametrize(("iou_threshold", "kept"), [(0.45, 1), (0.55, 2)])
def test_detections_of_a_split(records_folder: Path, iou_threshold: float, kept: int) -> None:
    manifest = records.load_manifest(records_folder, "train")
    step = evaluate.detection_step(_two_boxes, iou_threshold)
    detected = evaluate.detect(step, manifest, 32)
    assert [image.image_id for image in detected] == [
        image.image_id for image in evaluate.read_truth(manifest)
    ]
    assert {len(image.scores) for image in detected} == {kept}
    np.testing.assert_allclose(detected[0].boxes_xyxy[0], [0, 0, 0.4 * 640, 0.4 * 480])


def test_a_smaller_last_batch_is_no_new_trace() -> None:
    step: Any = evaluate.detection_step(_two_boxes)
    for count in (16, 7):
        step(tf.zeros([count, 8, 8, 3], tf.uint8))
    assert step.experimental_get_tracing_count() == 1
