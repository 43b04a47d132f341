"""The network that `model_repository` ships, as Keras has it: its run is not in the repository.

Its weights come from the ONNX file, where batch normalisation is part of the convolutions, a map's
two predictors are one, and the first weights take pixels that are not normalised.
"""

import json
import math
from pathlib import Path

import keras
import numpy as np
import onnx

from benchmarks import ROOT
from training.export.onnx_graph import Graph
from training.network import model
from training.network.presets import PRESETS

SHIPPED = ROOT / "model_repository" / "ssd" / "1" / "model.onnx"


def load_detector(path: Path = SHIPPED) -> model.Detector:
    """A detector of a float32 `model.onnx` of `ssd_compact` or `ssd_compact_atss`."""
    onnx_model = onnx.load(path)
    facts = {entry.key: entry.value for entry in onnx_model.metadata_props}
    preset = PRESETS[facts["preset"]]
    network = model.build_network(preset, len(json.loads(facts["labels"])))
    graph = Graph(onnx_model)
    for node in graph.nodes("Conv"):
        kernel, bias = _read_weights(graph, node)
        start = 0
        for layer in (network.get_layer(name) for name in _layer_names(graph, node)):
            part = slice(start, start := start + layer.filters)
            _set_weights(network, layer, kernel[..., part], bias[part])
    return model.Detector(network, preset, int(facts["keep"]))


def _read_weights(graph: Graph, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
    """A convolution's kernel, [rows, columns, I, O], and bias, [O]."""
    weights, *bias = (graph.constant(name) for name in node.input[1:])
    assert weights is not None
    kernel = weights.transpose(2, 3, 1, 0)
    return kernel, bias[0] if bias and bias[0] is not None else np.zeros(len(weights), np.float32)


def _layer_names(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """The layers that are one convolution in the file: `network_1/fine_1a_1/...` is fine_1a."""
    if node.input[1] == "first_weights":
        return ["stem_1"]
    split = graph.only_reader(node.output[0], "Split")
    tensors = split.output if split else [node.input[1]]
    return [tensor.split("/")[1].removesuffix("_1") for tensor in tensors]


def _set_weights(
    network: keras.Model, layer: keras.Layer, kernel: np.ndarray, bias: np.ndarray
) -> None:
    if layer.name == "stem_1":
        kernel = kernel * 127.5  # of normalised pixels, see `compact`
    if layer.use_bias:
        layer.set_weights([kernel, bias])
        return
    layer.set_weights([kernel])
    norm = network.get_layer(f"{layer.name}_norm")
    zeros = np.zeros_like(bias)
    norm.set_weights([zeros + math.sqrt(1 + norm.epsilon), bias, zeros, zeros + 1])
