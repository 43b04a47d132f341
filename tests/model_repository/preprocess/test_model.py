"""preprocess/1/model.py with a small stand-in for Triton."""

import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def model(
    triton: ModuleType,
    load: Callable[..., ModuleType],
    config_of: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    for sibling in ("image_header", "preprocessing", "metrics", "image_statistics"):
        load("preprocess", sibling)
    module = load("preprocess", "model")
    monkeypatch.setattr(module.cv2, "setNumThreads", lambda count: None)  # of this process, too
    monkeypatch.setattr(module.cv2, "setLogLevel", lambda level: None)
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config_of("preprocess"))})
    yield model
    model.finalize()


def request(triton: Any, *files: bytes) -> Any:
    return triton.InferenceRequest({"image": np.array(files, object).reshape(-1, 1)})


def test_answers_each_request(
    triton: Any, model: Any, encode: Callable[..., bytes], picture: np.ndarray
) -> None:
    file, small = encode(picture, "JPEG"), encode(picture[:20], "PNG")

    first, second = model.execute([request(triton, file, small), request(triton, small)])

    assert first.outputs["images"].shape == (2, 300, 300, 3)
    assert first.outputs["images"].dtype == np.uint8
    assert first.outputs["image_size"].tolist() == [[90, 120], [20, 120]]
    assert second.outputs["image_size"].dtype == np.int32
    assert second.outputs["image_size"].tolist() == [[20, 120]]


def test_a_bad_image_fails_its_request_alone(
    triton: Any, model: Any, encode: Callable[..., bytes], picture: np.ndarray
) -> None:
    file = encode(picture, "JPEG")

    good, bad, other = model.execute(
        [request(triton, file), request(triton, file, b"hello"), request(triton, file)]
    )

    assert bad.error.code() == triton.TritonError.INVALID_ARG
    assert bad.error.message().startswith("image 1: not an image")
    assert good.error is None
    assert other.error is None


def test_a_defect_of_ours_shows_no_stack_trace(triton: Any, model: Any) -> None:
    (response,) = model.execute([triton.InferenceRequest({})])

    assert response.error.code() == triton.TritonError.INTERNAL
    assert response.error.message() == "preprocess failed, see the server's log"
    assert "AttributeError" in triton.Logger.errors[0]
