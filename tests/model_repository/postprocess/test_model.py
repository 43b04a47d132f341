"""postprocess/1/model.py with a small stand-in for Triton."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ONE = [0.1, 0.2, 0.3, 0.4]
OTHER = [0.5, 0.5, 0.75, 1.0]


@pytest.fixture
def module(triton: ModuleType, load: Callable[..., ModuleType]):
    for sibling in ("postprocessing", "fusion", "metrics", "detection_statistics"):
        load("postprocess", sibling)
    return load("postprocess", "model")


@pytest.fixture
def model(module, config_of: Callable[[str], dict[str, Any]]):
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config_of("postprocess"))})
    yield model
    model.finalize()


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    """Two images, 100 high and 200 wide: an RBC, better than a platelet; and nothing."""
    boxes = np.tile(np.array([ONE, OTHER], np.float32), (2, 1, 1))
    scores = np.array([[[0.9, 0.1, 0.1], [0.1, 0.1, 0.7]], np.zeros((2, 3))], np.float32)
    return {
        "boxes": boxes,
        "scores": scores,
        "image_size": np.array([[100, 200], [10, 10]], np.int32),
    }


def test_fills_the_rows(triton: Any, model, inputs: dict[str, np.ndarray]) -> None:
    (response,) = model.execute([triton.InferenceRequest(inputs)])

    shapes = {name: (array.shape, array.dtype.kind) for name, array in response.outputs.items()}
    assert shapes == {
        "num_detections": ((2, 1), "i"),
        "detection_boxes": ((2, 100, 4), "f"),
        "detection_scores": ((2, 100), "f"),
        "detection_classes": ((2, 100), "i"),
        "detection_labels": ((2, 100), "O"),
    }
    outputs = response.outputs
    assert outputs["num_detections"].tolist() == [[2], [0]]
    np.testing.assert_allclose(
        outputs["detection_boxes"][0, :3], [[20, 20, 60, 40], [100, 50, 150, 100], [0, 0, 0, 0]]
    )
    np.testing.assert_allclose(outputs["detection_scores"][0, :3], [0.9, 0.7, 0])
    assert outputs["detection_classes"][0, :3].tolist() == [0, 2, 0]
    assert outputs["detection_labels"][0, :3].tolist() == [b"RBC", b"Platelets", b""]
    assert not outputs["detection_boxes"][1].any()
    assert set(outputs["detection_labels"][1]) == {b""}


def test_boxes_of_several_networks_are_fused(
    triton: Any, module, config_of: Callable[[str], dict[str, Any]], inputs: dict[str, np.ndarray]
) -> None:
    """The second one, which gives three boxes, sees the first image alone and the RBC moved."""
    config = config_of("postprocess")
    config["input"] += [{"name": "boxes_2"}, {"name": "scores_2"}]
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config)})
    boxes = np.tile(np.array([[0.12, 0.2, 0.32, 0.4], ONE, OTHER], np.float32), (2, 1, 1))
    scores = np.zeros((2, 3, 3), np.float32)
    scores[0, 0, 0] = 0.3
    more = {"boxes_2": boxes, "scores_2": scores}

    (response,) = model.execute([triton.InferenceRequest(inputs | more, score_threshold=0.34)])

    outputs = response.outputs
    assert outputs["num_detections"].tolist() == [[2], [0]]
    np.testing.assert_allclose(outputs["detection_scores"][0, :2], [0.6, 0.35], atol=1e-6)
    # 200 wide; three quarters of the way to the surer one.
    np.testing.assert_allclose(outputs["detection_boxes"][0, 0], [21, 20, 61, 40], atol=1e-4)
    assert outputs["detection_labels"][0, :2].tolist() == [b"RBC", b"Platelets"]
    model.finalize()


def test_thresholds_by_class_are_one_per_class(
    triton: Any, module, config_of: Callable[[str], dict[str, Any]], inputs: dict[str, np.ndarray]
) -> None:
    config = config_of("postprocess")
    given = config["parameters"]["score_thresholds"]
    given["string_value"] = "[0.95, 0.5, 0.5]"
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config)})

    responses = model.execute(
        [triton.InferenceRequest(inputs), triton.InferenceRequest(inputs, score_threshold=0.5)]
    )

    assert [int(r.outputs["num_detections"][0, 0]) for r in responses] == [1, 2]
    model.finalize()
    given["string_value"] = "[0.5, 0.5]"
    with pytest.raises(ValueError, match="score_thresholds has 2 numbers, one for each of the 3"):
        module.TritonPythonModel().initialize({"model_config": json.dumps(config)})


def test_requests_of_one_batch_keep_their_own_parameters(
    triton: Any, model, inputs: dict[str, np.ndarray]
) -> None:
    responses = model.execute(
        [
            triton.InferenceRequest(inputs, score_threshold=0.8),
            triton.InferenceRequest(inputs),
            triton.InferenceRequest(inputs, max_detections=1),
            triton.InferenceRequest(inputs, score_threshold=2.0),
            triton.InferenceRequest(inputs, score_threshold=1),
        ]
    )

    refused = responses.pop(3).error
    assert [int(r.outputs["num_detections"][0, 0]) for r in responses] == [1, 2, 1, 0]
    assert refused.code() == triton.TritonError.INVALID_ARG
    assert refused.message() == "score_threshold is 2.0, a number from 0 to 1 expected"


def test_a_size_that_is_none(triton: Any, model, inputs: dict[str, np.ndarray]) -> None:
    inputs["image_size"][1] = -5, 7

    (response,) = model.execute([triton.InferenceRequest(inputs)])

    assert response.error.code() == triton.TritonError.INVALID_ARG
    assert response.error.message() == (
        "image 1: height -5, width 7 in image_size, 1 pixel or more expected"
    )


def test_a_defect_of_ours_shows_no_stack_trace(triton: Any, model) -> None:
    (response,) = model.execute([triton.InferenceRequest({})])

    assert response.error.code() == triton.TritonError.INTERNAL
    assert response.error.message() == "postprocess failed, see the server's log"
    assert "AttributeError" in triton.Logger.errors[0]


def test_labels_must_be_one_per_class(triton: Any, module, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\n")

    assert module.read_labels(path, 2).tolist() == [b"cat", b"dog"]
    with pytest.raises(triton.TritonModelException, match=r"2 lines, .* has 3 classes"):
        module.read_labels(path, 3)
