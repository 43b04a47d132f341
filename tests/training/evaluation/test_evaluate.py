import json
from pathlib import Path

import numpy as np
import pytest

from training.data import records_writer
from training.errors import TrainingError
from training.evaluation import evaluate
from training.evaluation.score import Truth

LABELS = ("cell", "speck")
BOXES = np.array([[10, 10, 50, 50], [60, 60, 90, 80]], np.float32)


def test_split_with_nothing_to_measure(test_data: Path, tmp_path: Path) -> None:
    """mAP was 0.000, as of a network that finds nothing."""
    folder = test_data / "cases/T5-val-empty"
    assert records_writer.write_records(records_writer.RecordsSettings((folder,), tmp_path)) == 0
    settings = evaluate.EvaluateSettings(tmp_path, detections=tmp_path / "none.json")
    with pytest.raises(TrainingError, match="nothing to measure: none of the 2 images of val"):
        evaluate.evaluate_detector(settings)


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
    stored = Truth("a", 100, 100, BOXES[:1], np.array([0]), np.array([False]))
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
        evaluate.evaluate_detector(settings)


def test_a_foreign_report_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    settings = evaluate.EvaluateSettings(tmp_path / "none", run=tmp_path, report=tmp_path)
    with pytest.raises(TrainingError, match=r"holds mine.txt, which is no part of a report"):
        evaluate.evaluate_detector(settings)
