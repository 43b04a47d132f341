"""ONNX networks to rewrite, and what they give."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import PROJECT
from training.network import onnx_network

SHIPPED = PROJECT / "model_repository" / "ssd" / "1" / "model.onnx"


def load(path: Path) -> onnx.ModelProto:
    """A network from its file."""
    return onnx.load(path)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Boxes and scores of uint8 images [B, S, S, 3], float32 [B, K, 4 + C]."""
    session = onnx_network.open_session(model.SerializeToString())
    return np.concatenate(session.run(["boxes", "scores"], {"images": images}), axis=-1)


def doubling(times: int, crop: int) -> onnx.ModelProto:
    """A map [B, 3, 4, 5] repeated so often along both sides, less the last rows and columns.

    As tf2onnx writes Keras' UpSampling2D and Cropping2D.
    """
    constants: dict[str, list[int]] = {
        "third": [3],
        "rows_times": [1, 1, 1, times, 1],
        "rows": [-1, 4 * times, 5, 3],
        "columns_times": [1, 1, 1, times, 1],
        "both": [-1, 4 * times, 5 * times, 3],
        "starts": [0, 0],
        "ends": [4 * times - crop, 5 * times - crop],
        "axes": [1, 2],
    }
    nodes = [
        helper.make_node("Unsqueeze", ["x", "third"], ["a"]),
        helper.make_node("Tile", ["a", "rows_times"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 3, 4, 1]),
        helper.make_node("Reshape", ["c", "rows"], ["d"]),
        helper.make_node("Unsqueeze", ["d", "third"], ["e"]),
        helper.make_node("Tile", ["e", "columns_times"], ["f"]),
        helper.make_node("Reshape", ["f", "both"], ["g"]),
        helper.make_node("Slice", ["g", "starts", "ends", "axes"], ["h"]),
        helper.make_node("Transpose", ["h"], ["y"], perm=[0, 3, 1, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def normed(channels: int) -> onnx.ModelProto:
    """A depthwise convolution of three channels, then a factor and a summand of so many."""
    generator = np.random.default_rng(0)
    constants = {
        "weights": generator.normal(0, 1, (3, 1, 3, 3)),
        "factor": generator.normal(0, 1, (1, channels, 1, 1)),
        "summand": generator.normal(0, 1, (1, channels, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "weights"], ["a"], group=3),
        helper.make_node("Mul", ["a", "factor"], ["b"]),
        helper.make_node("Add", ["b", "summand"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "normed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def stem(
    stride: int = 2,
    size: int = 16,
    middle: float = -127.5,
    bias: bool = True,
    largest: float | None = None,
) -> onnx.ModelProto:
    """A network's beginning as `simplify` leaves it: bytes, less the middle, convolved, ReLU.

    With `largest` that is Clip, as tf2onnx writes ReLU6.
    """
    generator = np.random.default_rng(0)
    constants = {
        "middle": np.float32(middle),
        "weights": generator.normal(0, 0.01, (5, 3, 3, 3)).astype(np.float32),
        "bias": generator.normal(0, 1, 5).astype(np.float32),
        "least": np.float32(0),
        "largest": np.float32(largest or 0),
    }
    pads = [0, 0, 1, 1] if stride == 2 else [1, 1, 1, 1]
    nodes = [
        helper.make_node("Transpose", ["images"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["b", "middle"], ["c"]),
        helper.make_node(
            "Conv", ["c", "weights", "bias"][: 3 if bias else 2], ["d"],
            strides=[stride, stride], pads=pads, kernel_shape=[3, 3],
        ),
        helper.make_node("Relu", ["d"], ["y"])
        if largest is None
        else helper.make_node("Clip", ["d", "least", "largest"], ["y"]),
    ]  # fmt: skip
    for node in nodes:
        node.name = f"make_{node.output[0]}"
    side = size // stride
    graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, side, side])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
