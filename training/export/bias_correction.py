"""int8: what rounded weights shift a convolution's output by, on average, its bias takes back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv
1906.04721, section 4.2), with means seen on images in place of means estimated without any.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from training.export.onnx_graph import Graph
from training.network import onnx_network


class _Quantized(NamedTuple):
    """A constant in integers."""

    node: onnx.NodeProto  # its DequantizeLinear
    values: np.ndarray  # [O, ...]
    scale: np.ndarray  # [O]


def correct_biases(
    quantized: onnx.ModelProto, network: onnx.ModelProto, images: Sequence[np.ndarray]
) -> None:
    """Change the biases of a quantized network's convolutions, in place.

    Those without one are left alone: a bias of zeros for them moved no box.

    Args:
        quantized: as ONNX Runtime writes it, weights and biases behind DequantizeLinear.
        network: what it was made of, in float32; nodes have the same names.
        images: uint8 [S, S, 3], at least 1.
    """
    graph, original = Graph(quantized), Graph(network)
    windows = {node.name: original.window(node) for node in original.nodes("Conv")}
    means = mean_inputs(network, images)
    for node in (node for node in graph.nodes("Conv") if len(node.input) == 3):
        window = windows[node.name]
        weights, bias = (_find_quantized(graph, name) for name in node.input[1:])
        if window and weights and bias:
            lost = window[0] - weights.values * weights.scale[:, None, None, None]
            shift = np.rint(shift_of_mean(lost, means[node.name]) / bias.scale)
            corrected = bias.values + shift.astype(bias.values.dtype)
            bias.node.input[0] = graph.add_constant(f"{node.name}_bias_corrected", corrected)


def mean_inputs(model: onnx.ModelProto, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """For each convolution the mean of each channel that it takes, [I], over pixels and images."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    means = {
        node.name: graph.add("ReduceMean", [node.input[0]], axes=[0, 2, 3], keepdims=0)
        for node in graph.nodes("Conv")
    }
    for name in means.values():
        graph.proto.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnx_network.open_session(copy.SerializeToString())
    rows = [session.run(list(means.values()), {"images": image[None]}) for image in images]
    return {name: np.mean([row[k] for row in rows], axis=0) for k, name in enumerate(means)}


def shift_of_mean(lost: np.ndarray, means: np.ndarray) -> np.ndarray:
    """What weights of these values would add to a convolution's mean output, padding aside.

    Args:
        lost: [O, I / groups, rows, columns].
        means: of the channels that the convolution takes, [I].

    Returns:
        [O].
    """
    groups = len(means) // lost.shape[1]
    inputs = means.reshape(groups, -1).repeat(len(lost) // groups, axis=0)  # [O, I / groups]
    return (lost.sum(axis=(2, 3)) * inputs).sum(axis=1)


def _find_quantized(graph: Graph, tensor: str) -> _Quantized | None:
    """The constant in 8 or 32 bits that a tensor is made of; None where it is another's."""
    node = graph.maker(tensor)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    values, scale = (graph.constant(name) for name in node.input[:2])
    return None if values is None or scale is None else _Quantized(node, values, scale)
