"""The tiny network, and what else tests want in it."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.contestants.tiny_network import LABELS, network, write_artifact

__all__ = [
    "LABELS",
    "constant",
    "fail_at",
    "network",
    "slow_down",
    "with_tail",
    "write_artifact",
]


def constant(graph: onnx.GraphProto, name: str, value: Any) -> None:
    """Give a constant of the tiny network another value, or add one."""
    kept = [each for each in graph.initializer if each.name != name]
    del graph.initializer[:]
    graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(value), name)])


def with_tail(graph: onnx.GraphProto, *nodes: onnx.NodeProto) -> None:
    """Append nodes that make `scores` of `plain` and `brightness` (0 to 0.001 for each image)."""
    graph.node[-1].output[0] = "plain"
    graph.node.extend(nodes)


def fail_at(graph: onnx.GraphProto, low: float, high: float) -> None:
    """Let an inference fail where an image's brightness, 0 to 1, lies between the two.

    It then takes a row that is not there.
    """
    constant(graph, "low", np.float32(low / 1000))
    constant(graph, "high", np.float32(high / 1000))
    constant(graph, "zeros", np.zeros((1, 1), np.float32))
    with_tail(
        graph,
        helper.make_node("Greater", ["brightness", "low"], ["above"]),
        helper.make_node("Less", ["brightness", "high"], ["below"]),
        helper.make_node("And", ["above", "below"], ["between"]),
        helper.make_node("Cast", ["between"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zeros", "row"], ["rows"]),
        helper.make_node("ReduceSum", ["rows"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["plain", "nothing"], ["scores"]),
    )


def slow_down(graph: onnx.GraphProto, size: int = 1500) -> None:
    """Let an inference take tens of milliseconds longer: matrices of this size are multiplied."""
    constant(graph, "matrix", np.zeros((1, size, size), np.float32))
    with_tail(
        graph,
        helper.make_node("Add", ["matrix", "brightness"], ["filled"]),
        helper.make_node("MatMul", ["filled", "matrix"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["plain", "nothing"], ["scores"]),
    )
