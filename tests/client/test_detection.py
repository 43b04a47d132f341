import json
from dataclasses import FrozenInstanceError

import pytest

from client import Box, Detection, Result


def test_an_empty_result_counts_nothing() -> None:
    result = Result((), width=640, height=480, model="ensemble")
    assert result.counts() == {}
    assert result.to_dict() == {
        "width": 640,
        "height": 480,
        "counts": {},
        "detections": [],
        "model": "ensemble",
        "server": "",
    }


def test_results_are_equal_whichever_model_and_server_found_the_same() -> None:
    assert Result((), 640, 480, "ensemble", "a:1") == Result((), 640, 480, "ensemble_canary", "b:1")


def test_counts_are_per_label_and_the_most_frequent_comes_first(cell: Detection) -> None:
    white = Detection("WBC", 1, 0.5, Box(0, 0, 1, 1))
    assert list(Result((white, cell, cell), 640, 480).counts().items()) == [("RBC", 2), ("WBC", 1)]


def test_a_result_survives_json(cell: Detection) -> None:
    document = json.loads(json.dumps(Result((cell,), 640, 480).to_dict()))
    assert document["detections"] == [
        {
            "label": "RBC",
            "class_id": 0,
            "score": 0.75,
            "box": {"x1": 10.5, "y1": 20.0, "x2": 110.5, "y2": 120.25},
        }
    ]


def test_a_detection_cannot_be_changed(cell: Detection) -> None:
    with pytest.raises(FrozenInstanceError):
        cell.score = 1.0  # type: ignore[misc]
