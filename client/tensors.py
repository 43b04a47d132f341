"""The ensemble's tensors, to and from Python.

| tensor | type, shape | meaning |
|---|---|---|
| image | BYTES [1, 1] | in: an encoded image file |
| image_size | INT32 [1, 2] | height, width of the upright original, pixels |
| num_detections | INT32 [1, 1] | how many of the M rows below are real |
| detection_boxes | FP32 [1, M, 4] | xyxy in pixels of the upright original, best first |
| detection_scores | FP32 [1, M] | 0..1 |
| detection_classes | INT32 [1, M] | 0-based |
| detection_labels | BYTES [1, M] | UTF-8 |
"""

from __future__ import annotations

import operator
import struct
from typing import TypedDict

import numpy as np
from tritonclient.grpc import InferInput, InferResult

from client.detection import Box, Detection, Result
from client.errors import ServerError


class Parameters(TypedDict, total=False):
    """Left out or None: the server's default."""

    score_threshold: float | None  # 0..1, lower scores are left out
    iou_threshold: float | None  # 0..1, of two boxes of a class overlapping more, one stays
    max_detections: int | None  # per image


def request_input(data: bytes) -> InferInput:
    """Return the tensor `image` of one encoded file."""
    tensor = InferInput("image", [1, 1], "BYTES")
    # dtype=object: numpy's own bytes type would drop trailing zero bytes.
    tensor.set_data_from_numpy(np.array([[data]], dtype=object))
    return tensor


def request_parameters(
    *,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
) -> dict[str, float | int]:
    """Return the parameters that were given, as the plain numbers that the protocol carries."""
    given: dict[str, float | int] = {}
    if score_threshold is not None:
        given["score_threshold"] = float(score_threshold)
    if iou_threshold is not None:
        given["iou_threshold"] = float(iou_threshold)
    if max_detections is not None:
        given["max_detections"] = operator.index(max_detections)
    return given


def result_of(answer: InferResult) -> Result:
    """Return the first image's result.

    Raises:
        ServerError: a tensor is missing or has another type or shape.
    """
    boxes = _tensor(answer, "detection_boxes", "f", (1, None, 4))[0]
    rows = len(boxes)
    scores = _tensor(answer, "detection_scores", "f", (1, rows))[0]
    classes = _tensor(answer, "detection_classes", "i", (1, rows))[0]
    labels = _tensor(answer, "detection_labels", "O", (1, rows))[0]
    height, width = _tensor(answer, "image_size", "i", (1, 2))[0]
    detections = (
        Detection(
            label=labels[row].decode(errors="replace"),
            class_id=int(classes[row]),
            score=float(scores[row]),
            box=Box(*boxes[row].tolist()),
        )
        for row in range(_count(answer, rows))
    )
    model = answer.get_response().model_name
    return Result(tuple(detections), width=int(width), height=int(height), model=model)


def _count(answer: InferResult, rows: int) -> int:
    count = int(_tensor(answer, "num_detections", "i", (1, 1))[0, 0])
    if not 0 <= count <= rows:
        raise ServerError(f"the answer's num_detections must be 0 to {rows}, but is {count}")
    return count


def _tensor(answer: InferResult, name: str, kind: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return an output of numpy's dtype kind and of this shape, None for any length."""
    try:
        array = answer.as_numpy(name)
    except (ValueError, struct.error):
        raise ServerError(f"the answer's {name} does not fit its own shape") from None
    if array is None:
        raise ServerError(f"the answer has no tensor {name}: is this the detection ensemble?")
    fits = array.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind != kind or not fits:
        want = [length or "M" for length in shape]
        raise ServerError(
            f"the answer's {name} must have shape {want} of kind {kind!r}, "
            f"but got {array.dtype} with shape {list(array.shape)}"
        )
    return array
