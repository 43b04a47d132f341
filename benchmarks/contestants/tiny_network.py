"""An ONNX file as training makes it, whose answer is known and tells it from others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ("RBC", "WBC", "Platelets")  # the shipped repository's


def write_artifact(
    folder: Path,
    labels: Sequence[str] = LABELS,
    size: int = 300,
    keep: int = 400,
    resize: str = "stretch",
    **answer: Any,
) -> Path:
    """Make the folder of an artifact; `answer` is what `network` takes."""
    folder.mkdir(parents=True)
    onnx.save(network(size, keep, len(labels), **answer), folder / "model.onnx")
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    card = {"preset": "tiny", "input_size": size, "resize": resize}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def network(
    size: int,
    keep: int,
    classes: int,
    score: float = 0.9,
    box: tuple[float, float, float, float] = (0.25, 0.25, 0.75, 0.75),
) -> onnx.ModelProto:
    """A network that finds one object of class 0 in every image, at `box` (xyxy, 0 to 1).

    Its scores grow by up to 0.001 with the image's brightness, as a network's that sees something.
    """
    boxes, scores = np.zeros((1, keep, 4), np.float32), np.zeros((1, keep, classes), np.float32)
    boxes[0, 0], scores[0, 0, 0] = box, score
    constants: dict[str, np.ndarray] = {
        "one_boxes": boxes,
        "dark_scores": scores,
        "twos": np.ones(2, np.int64),
        "gain": np.full((), 0.001 / 255, np.float32),
        "per_image": np.array([-1, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["images"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "twos"], ["shape"], axis=0),
        helper.make_node("Expand", ["one_boxes", "shape"], ["boxes"]),
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3]),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "per_image"], ["brightness"]),
        helper.make_node("Add", ["dark_scores", "brightness"], ["scores"]),
    ]
    shapes: dict[str, list[str | int | None]] = {
        "boxes": ["batch", keep, 4],
        "scores": ["batch", keep, classes],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
