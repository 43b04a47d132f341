"""Artifacts as training makes them, with a tiny network whose answer is constant."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

PROJECT = Path(__file__).parent.parent.parent
LABELS = ("RBC", "WBC", "Platelets")  # the shipped repository's


@pytest.fixture(scope="session")
def project_repository() -> Path:
    """The shipped repository itself: not to be changed."""
    return PROJECT / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the shipped repository."""
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PROJECT / "model_repository", tmp_path / "models", ignore=ignore))


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., Path]:
    """make_artifact(labels, size, keep, score) -> folder of an artifact."""

    def make(
        labels: Sequence[str] = LABELS, size: int = 300, keep: int = 400, score: float = 0.9
    ) -> Path:
        folder = tmp_path / f"artifact-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        onnx.save(network(size, keep, len(labels), score), folder / "model.onnx")
        (folder / "labels.txt").write_text("\n".join(labels) + "\n")
        (folder / "card.json").write_text(json.dumps({"preset": "tiny", "input_size": size}))
        return folder

    return make


def network(size: int, keep: int, classes: int, score: float) -> onnx.ModelProto:
    """A network that finds one object of class 0 in the middle of every image."""
    boxes, scores = np.zeros((1, keep, 4), np.float32), np.zeros((1, keep, classes), np.float32)
    boxes[0, 0], scores[0, 0, 0] = (0.25, 0.25, 0.75, 0.75), score
    nodes = [helper.make_node("Shape", ["images"], ["batch"], start=0, end=1)]
    for name, constant in (("boxes", boxes), ("scores", scores)):
        ones = numpy_helper.from_array(np.ones(2, np.int64), f"{name}_ones")
        nodes += [
            helper.make_node(
                "Constant", [], [f"{name}_one"], value=numpy_helper.from_array(constant)
            ),
            helper.make_node("Constant", [], [f"{name}_ones"], value=ones),
            helper.make_node("Concat", ["batch", f"{name}_ones"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", [f"{name}_one", f"{name}_shape"], [name]),
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
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
