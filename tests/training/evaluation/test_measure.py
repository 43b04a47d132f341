from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training.data import records
from training.evaluation import measure


def _two_boxes(images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Two boxes whose IoU is 0.5, on every image."""
    count = tf.shape(images)[0]
    boxes = tf.constant([[[0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.8]]])
    scores = tf.constant([[[0.9], [0.8]]])
    return {"boxes": tf.tile(boxes, [count, 1, 1]), "scores": tf.tile(scores, [count, 1, 1])}


@pytest.mark.parametrize(("iou_threshold", "kept"), [(0.45, 1), (0.55, 2)])
def test_detections_of_a_split(records_folder: Path, iou_threshold: float, kept: int) -> None:
    manifest = records.load_manifest(records_folder, "train")
    step = measure.detection_step(_two_boxes, iou_threshold)
    detected = measure.detect_objects(step, manifest, 32)
    assert [image.image_id for image in detected] == [
        image.image_id for image in measure.read_truth(manifest)
    ]
    assert {len(image.scores) for image in detected} == {kept}
    np.testing.assert_allclose(detected[0].boxes_xyxy[0], [0, 0, 0.4 * 640, 0.4 * 480])


def test_boxes_vote_as_when_they_are_served(records_folder: Path) -> None:
    """Both boxes overlap by half: the better one becomes their mean, weighted by 0.9 and 0.8."""
    manifest = records.load_manifest(records_folder, "train")
    step = measure.detection_step(_two_boxes, 0.45, voting_iou=0.49)
    [first, *_] = measure.detect_objects(step, manifest, 32)
    lower = (0.9 * 0.4 + 0.8 * 0.8) / 1.7
    np.testing.assert_allclose(first.boxes_xyxy, [[0, 0, 0.4 * 640, lower * 480]], rtol=1e-6)
    assert first.scores.tolist() == [np.float32(0.9)]


def test_boxes_come_back_from_a_letterboxed_photo(records_folder: Path) -> None:
    """640x480: 80 pixels of the canvas are grey above the photo."""
    manifest = records.load_manifest(records_folder, "val")
    detected = measure.detect_objects(
        measure.detection_step(_two_boxes, 0.55), manifest, 32, "letterbox"
    )
    np.testing.assert_allclose(detected[0].boxes_xyxy[0], [0, 0, 256, 176], rtol=1e-5)
    np.testing.assert_allclose(detected[0].boxes_xyxy[1], [0, 0, 256, 432], rtol=1e-5)


def test_a_smaller_last_batch_is_no_new_trace() -> None:
    step: Any = measure.detection_step(_two_boxes, 0.45)
    for count in (16, 7):
        step(tf.zeros([count, 8, 8, 3], tf.uint8))
    assert step.experimental_get_tracing_count() == 1
