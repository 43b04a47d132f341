"""An exported network with smaller numbers: int8 for CPUs, float16 for GPUs. ONNX in, ONNX out.

int8 is static quantization (ONNX Runtime's, in QDQ form): unsigned activations, signed weights with
a scale for each channel, and the range of each activation as seen on training images. Convolutions
and what lies between them compute in 8 bits; ReLU and ReLU6 are the range of what they give. The
predictors and what follows them (softmax, box decoding, the best-K cut) stay float32: offsets and
logits in 8 bits cost 0.01 mAP@[.5:.95] and save a twentieth of the time.

Weights use 7 of their 8 bits (`reduce_range`). CPUs without VNNI (Intel's before 2019, AMD's before
2022) multiply unsigned by signed bytes and add two products in 16 bits, which 8-bit weights
overflow: on an emulated CPU with AVX2 only, a blood cell network then had an mAP@0.5 of 0.412
instead of 0.917, without any error. 7 bits cannot overflow, reach 0.917 there and here, and are as
fast. Depthwise convolutions have all 8 bits: ONNX Runtime adds their products in 32 bits, on that
CPU too. Whoever must serve 8-bit weights on it elsewhere sets ONNX Runtime's session option
`session.x64quantprecision` to 1: then they gave what they give here.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from onnxruntime.transformers import float16
from tqdm import tqdm

from training.export.bias_correction import correct_biases
from training.export.onnx_graph import Graph
from training.export.simplify import simplify
from training.export.stem import BYTE_OF_ZERO, merge_pixels, take_bytes

Method = Literal["minmax", "percentile"]
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
}
# What ONNX Runtime computes in 8 bits, or moves.
_OPERATORS = ("Conv", "Relu", "Clip", "Add", "MaxPool", "Gather", "Transpose", "Reshape")
_WHOLE = {"quant_type": QuantType.QInt8, "axis": 0, "reduce_range": False}
_EXACT = {"scale": np.array(1.0, np.float32), "zero_point": np.array(BYTE_OF_ZERO, np.uint8)}


class Images(CalibrationDataReader):
    """Hands uint8 images [S, S, 3] over one by one, with a progress bar."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        bar = tqdm(images, desc="calibrating", unit="image", disable=None, leave=False)
        self.left: Iterator[np.ndarray] = iter(bar)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next feed, None after the last."""
        image = next(self.left, None)
        return None if image is None else {"images": image[None]}


def to_int8(
    model: onnx.ModelProto,
    images: Sequence[np.ndarray],
    method: Method = "minmax",
    reduce_range: bool = True,
) -> onnx.ModelProto:
    """The network in 8 bits.

    Args:
        model: as `training export` writes it, in float32.
        images: uint8 [S, S, 3], RGB, as the network gets them; those it was trained on, at least 1.
        method: how an activation's range follows from what was seen.
        reduce_range: weights in 7 bits, but for depthwise convolutions, for CPUs without VNNI.
    """
    model = _copy(model)
    simplify(model)
    graph = Graph(model)
    pixels = merge_pixels(graph)
    graph.tidy()
    overrides = {node.input[1]: [_WHOLE] for node in _depthwise(graph)}
    overrides |= {pixels: [_EXACT]} if pixels else {}
    with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
        prepared, path = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        # Shapes only; with ONNX Runtime's own optimisations the time was the same.
        quant_pre_process(model, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[node.name for node in between_convolutions(graph)],
            calibrate_method=_METHODS[method],
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantized = onnx.load(path)
    correct_biases(quantized, model, images)
    if pixels:
        take_bytes(Graph(quantized))
    return _like(quantized, model)


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in 16 bits; bytes in and float32 out as before, and float32 behind the heads."""
    model = _copy(model)
    simplify(model)
    graph = Graph(model)
    small = {node.name for node in between_convolutions(graph)}
    small |= {node.name for node in graph.nodes("Conv")}
    halved = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[],
        node_block_list=[node.name for node in graph.nodes() if node.name not in small],
    )
    graph = Graph(halved)
    _drop_repeats(graph)
    _drop_round_trips(graph)
    return _like(halved, model)


def _drop_repeats(graph: Graph) -> None:
    """The converter casts a tensor once for each of its readers, under one name."""
    made: set[str] = set()
    for node in graph.nodes():
        if made.intersection(node.output):
            graph.remove([node])
        made.update(node.output)


def _drop_round_trips(graph: Graph) -> None:
    """The converter rounds what goes from one node in float32 to the next, and the outputs."""
    for wide in graph.nodes("Cast"):
        narrow = graph.maker(wide.input[0])
        if narrow is None or not narrow.name.endswith("_cast_to_fp16_node"):
            continue
        old, new = narrow.input[0], wide.output[0]
        for node in graph.nodes():
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == old:
                        names[place] = new
        graph.remove([wide])


def between_convolutions(graph: Graph) -> list[onnx.NodeProto]:
    """The first convolution, and what it leads to that leads to a further one.

    So neither normalisation nor predictors are among them. Only nodes of `_OPERATORS`.
    """
    convolutions = graph.nodes("Conv")
    after = _reached(graph, convolutions, forwards=True)
    before = _reached(graph, convolutions, forwards=False)
    return [
        node
        for node in graph.nodes(*_OPERATORS)
        if node.name in before and (node.name in after or node.op_type == "Conv")
    ]


def _depthwise(graph: Graph) -> list[onnx.NodeProto]:
    """The convolutions that make each channel of one other."""
    windows = ((node, graph.window(node)) for node in graph.nodes("Conv"))
    return [node for node, window in windows if window and window[0].shape[1] == 1]


def _reached(graph: Graph, start: Iterable[onnx.NodeProto], forwards: bool) -> set[str]:
    """The names of the nodes behind these ones, or before them."""
    tensors = {tensor for node in start for tensor in (node.output if forwards else node.input)}
    reached: set[str] = set()
    for node in graph.nodes() if forwards else reversed(graph.nodes()):
        ends = (node.input, node.output) if forwards else (node.output, node.input)
        if tensors.intersection(ends[0]):
            reached.add(node.name)
            tensors.update(ends[1])
    return reached


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _like(model: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """The model, sorted and checked, with the original's metadata, version and tensors."""
    Graph(model).tidy()
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    model.ir_version = original.ir_version
    for field in ("input", "output"):
        del getattr(model.graph, field)[:]
        getattr(model.graph, field).extend(getattr(original.graph, field))
    onnx.checker.check_model(model, full_check=True)
    return model
