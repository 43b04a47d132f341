"""The first convolution of a network in 8 bits: it takes the image's bytes as they are.

A normalised pixel is `scale * (byte - 128)` but for half a step, which the bias makes up for; only
at the edges that are padded, where 0 is 127.5, it is off by 0.004. So nothing has to be normalised
or quantized at all.

An image has three channels, and ONNX Runtime's 8-bit convolution copies each window's pixels, three
bytes at a time, which takes longer than the float32 convolution. So four pixels of a row count as
one of 12 channels, and the convolution gives two pixels of its output at once, as twice the
channels: a third of the copies, and less than half of the time. Reshaping before and after costs
nothing where the channels come last, as they do in ONNX Runtime's 8-bit layers.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx

from training.export.onnx_graph import Graph

BYTE_OF_ZERO = 128  # what the byte is that stands for 0
_BLOCK = 4  # pixels that count as one
_STRIDE = 2
_OUTPUTS = _BLOCK // _STRIDE  # pixels of the output that come of one block


def merge_pixels(graph: Graph) -> str | None:
    """Let the first convolution take `images` as blocks of pixels, less `BYTE_OF_ZERO`.

    Returns:
        The name of the tensor that holds them; None where the network begins otherwise and stays.
    """
    path = graph.path("images", "Transpose", "Cast", "Add", "Conv")
    relu = graph.only_reader(path[-1].output[0], "Relu", "Clip") if path else None
    if path is None or relu is None:
        return None
    add, convolution = path[2:]
    middle = graph.scalar(add.input[1])
    window = graph.window(convolution)
    shapes = graph.shapes()
    size, output = shapes["images"][1:], shapes[relu.output[0]]
    if middle is None or window is None or not _fits(convolution, size, output):
        return None
    graph.remove([*path, relu])
    weights, bias = window
    bias = bias + weights.sum(axis=(1, 2, 3)) * (BYTE_OF_ZERO + middle)
    pixels = _pixels(graph, size)
    x = _convolve(graph, pixels, weights, bias, convolution)
    x = graph.add("Transpose", [graph.add(relu.op_type, [x, *relu.input[1:]])], perm=[0, 2, 3, 1])
    x = _reshaped(graph, x, [*output[2:], output[1]])
    graph.add("Transpose", [x], relu.output[0], perm=[0, 3, 1, 2])
    return pixels


def _fits(convolution: onnx.NodeProto, size: list[int | None], output: list[int | None]) -> bool:
    """Whether a convolution goes over blocks: over every second column, from the first one on."""
    width, columns = size[1], output[3]
    return (
        width is not None
        and width % _BLOCK == 0
        and columns == width // _STRIDE
        and _attribute(convolution, "strides", [1, 1])[1] == _STRIDE
        and _attribute(convolution, "pads", [0] * 4)[1] == 0
        and _attribute(convolution, "dilations", [1, 1]) == [1, 1]
    )


def _attribute(node: onnx.NodeProto, name: str, default: list[int]) -> list[int]:
    found = {a.name: list(a.ints) for a in node.attribute}
    return found.get(name, default)


def _pixels(graph: Graph, size: list[int | None]) -> str:
    """Blocks of pixels as numbers around 0: [B, 12, H, W / 4]."""
    height, width, colours = (side or 0 for side in size)
    x = _reshaped(graph, "images", [height, width // _BLOCK, colours * _BLOCK])
    x = graph.add("Transpose", [x], perm=[0, 3, 1, 2])
    x = graph.add("Cast", [x], to=onnx.TensorProto.FLOAT)
    return graph.add("Add", [x, graph.add_constant("zero", np.float32(-BYTE_OF_ZERO))])


def _convolve(
    graph: Graph, pixels: str, weights: np.ndarray, bias: np.ndarray, like: onnx.NodeProto
) -> str:
    """The convolution over blocks in the place of one over pixels."""
    blocks = of_blocks(weights)
    constants = [
        graph.add_constant("first_weights", blocks),
        graph.add_constant("first_bias", np.tile(bias, _OUTPUTS).astype(np.float32)),
    ]
    pads = _attribute(like, "pads", [0] * 4)
    return graph.add(
        "Conv",
        [pixels, *constants],
        strides=[_attribute(like, "strides", [1, 1])[0], 1],
        pads=[pads[0], 0, pads[2], blocks.shape[3] - 1],
    )


def of_blocks(weights: np.ndarray) -> np.ndarray:
    """Weights over pixels as weights over blocks of pixels.

    Args:
        weights: [O, 3, rows, columns], for a stride of 2.

    Returns:
        [2 O, 12, rows, blocks], for a stride of 1: first all channels of the left output pixel.
    """
    channels, colours, rows, columns = weights.shape
    count = math.ceil((columns + _STRIDE * (_OUTPUTS - 1)) / _BLOCK)
    blocks = np.zeros((_OUTPUTS, channels, rows, count * _BLOCK, colours), np.float32)
    for output in range(_OUTPUTS):
        first = _STRIDE * output
        blocks[output, :, :, first : first + columns] = weights.transpose(0, 2, 3, 1)
    blocks = blocks.reshape(_OUTPUTS * channels, rows, count, _BLOCK * colours)
    return np.ascontiguousarray(blocks.transpose(0, 3, 1, 2))


def _reshaped(graph: Graph, tensor: str, shape: Sequence[int | None]) -> str:
    """A tensor in another shape, given without the batch."""
    target = np.array([-1, *shape], np.int64)
    return graph.add("Reshape", [tensor, graph.add_constant("shape", target)])


def take_bytes(graph: Graph) -> None:
    """After quantization: the image's bytes are what the conversion to float32 and back gives."""
    operators = ("Reshape", "Transpose", "Cast", "Add", "QuantizeLinear", "DequantizeLinear")
    path = graph.path("images", *operators)
    assert path is not None, "the graph is not what merge_pixels made"
    path[-1].input[0] = path[1].output[0]
