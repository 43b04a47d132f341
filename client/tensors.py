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

import math
import operator
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import numpy as np
from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype

from client.detection import Box, Detection, Result
from client.errors import InvalidParameter, ServerError

INT64 = 2**63  # what the protocols carry lies below, and from its negative on


class Parameters(TypedDict, total=False):
    """Left out or None: the server's default."""

    score_threshold: float | None  # 0..1, lower scores are left out
    iou_threshold: float | None  # 0..1, of two boxes of a class overlapping more, one stays
    max_detections: int | None  # per image


class Output(NamedTuple):
    """A tensor as it travels: little endian, row by row."""

    name: str
    datatype: str  # Triton's name of it, such as FP32
    shape: Sequence[int]
    data: bytes


def packed(data: bytes) -> bytes:
    """Return the tensor `image` of one encoded file as it travels: its length, then the bytes."""
    return struct.pack("<I", len(data)) + data


def arrays_of(outputs: Iterable[Output]) -> dict[str, np.ndarray]:
    """Return tensors that have travelled, by their names; those of unknown types are left out.

    Raises:
        ServerError: a tensor's bytes are not those of its shape.
    """
    known = (output for output in outputs if triton_to_np_dtype(output.datatype) is not None)
    return {output.name: _array(output) for output in known}


def _array(output: Output) -> np.ndarray:
    try:
        if output.datatype == "BYTES":
            flat = deserialize_bytes_tensor(output.data)
        else:
            flat = np.frombuffer(output.data, triton_to_np_dtype(output.datatype))
        return flat.reshape(tuple(output.shape))
    except (ValueError, struct.error):
        raise ServerError(f"the answer's {output.name} does not fit its own shape") from None


def request_parameters(
    *,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
) -> dict[str, float | int]:
    """Return the parameters that were given, as the plain numbers that the protocols carry.

    Raises:
        InvalidParameter: not a finite number, or no protocol carries it; ranges are the server's.
    """
    given: dict[str, float | int] = {}
    if score_threshold is not None:
        given["score_threshold"] = _finite("score_threshold", score_threshold)
    if iou_threshold is not None:
        given["iou_threshold"] = _finite("iou_threshold", iou_threshold)
    if max_detections is not None:
        given["max_detections"] = _int64("max_detections", max_detections)
    return given


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):  # JSON has neither
        raise InvalidParameter(f"{name} is {float(value)}, a number from 0 to 1 expected")
    return float(value)


def _int64(name: str, value: int) -> int:
    number = operator.index(value)
    if not -INT64 <= number < INT64:
        raise InvalidParameter(f"{name} is {number}, a smaller integer expected")
    return number


def timeout(seconds: float) -> dict[str, int]:
    """Return Triton's own request parameter, in microseconds: what waits for longer may be dropped.

    Triton 2.51 does not tell an ensemble's steps that their client has gone; docs/client.md, Time.
    """
    return {"timeout": max(1, int(seconds * 1e6))}


def result_of(answer: Mapping[str, np.ndarray], *, model: str = "", server: str = "") -> Result:
    """Return the first image's result.

    Args:
        answer: the tensors above but `image`, by their names.
        model: who answered.
        server: where.

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
    return Result(tuple(detections), int(width), int(height), model=model, server=server)


def _count(answer: Mapping[str, np.ndarray], rows: int) -> int:
    count = int(_tensor(answer, "num_detections", "i", (1, 1))[0, 0])
    if not 0 <= count <= rows:
        raise ServerError(f"the answer's num_detections must be 0 to {rows}, but is {count}")
    return count


def _tensor(
    answer: Mapping[str, np.ndarray], name: str, kind: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """Return an output of numpy's dtype kind and of this shape, None for any length."""
    array = answer.get(name)
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
