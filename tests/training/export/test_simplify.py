import collections
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.serving.tiny_network import network as tiny_network
from tests.training.networks import doubling, load, normed, run
from training.export.onnx_graph import Graph
from training.export.simplify import fold_norms, gather_doubled_maps, simplify
from training.network import onnx_network


@pytest.fixture(scope="module")
def simplified(as_converted: Path) -> onnx.ModelProto:
    model = load(as_converted)
    simplify(model)
    return model


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_stay_the_same(simplified: onnx.ModelProto, as_converted: Path, batch: int) -> None:
    images = np.random.default_rng(batch).integers(0, 256, (batch, 300, 300, 3), np.uint8)
    rows, others = run(load(as_converted), images), run(simplified, images)
    assert onnx_network.difference(rows, others, slack=1e-5) < 1e-5


def test_each_rewriting_finds_its_pattern(simplified: onnx.ModelProto, as_converted: Path) -> None:
    onnx.checker.check_model(simplified, full_check=True)
    counts = collections.Counter(node.op_type for node in simplified.graph.node)
    before = collections.Counter(node.op_type for node in load(as_converted).graph.node)
    assert not counts["Shape"]  # fix_shapes
    assert not counts["Tile"]  # gather_doubled_maps
    assert counts["Conv"] == before["Conv"] - 6  # join_heads
    assert not counts["Softmax"]  # divide_late
    first = Graph(simplified).path("images", "Transpose", "Cast", "Add", "Conv")
    assert first is not None  # normalise_late


def test_normalisation_goes_into_depthwise_convolutions(lite0: Path) -> None:
    """The fixture compares with Keras, whose normalisation has ImageNet's means and variances."""
    graph = Graph(load(lite0))
    behind = {n.op_type for c in graph.nodes("Conv") for n in graph.readers(c.output[0])}
    assert "Mul" not in behind


@pytest.mark.parametrize("channels", [3, 1], ids=["of each channel", "of all channels"])
def test_only_what_is_of_each_channel_is_folded(channels: int) -> None:
    model = normed(channels)
    x = np.random.default_rng(1).random((2, 3, 6, 6), np.float32)
    (wanted,) = onnx_network.open_session(model.SerializeToString()).run(None, {"x": x})
    graph = Graph(model)
    fold_norms(graph)
    graph.tidy()
    operators = [node.op_type for node in graph.nodes()]
    assert operators == (["Conv"] if channels == 3 else ["Conv", "Mul", "Add"])
    (found,) = onnx_network.open_session(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_twice_is_as_good_as_once(simplified: onnx.ModelProto) -> None:
    again = onnx.ModelProto()
    again.CopyFrom(simplified)
    simplify(again)
    assert [n.op_type for n in again.graph.node] == [n.op_type for n in simplified.graph.node]


def test_a_network_of_another_kind_stays_as_it_is() -> None:
    model = tiny_network(32, 5, 2)
    before = [node.op_type for node in model.graph.node]
    simplify(model)
    assert [node.op_type for node in model.graph.node] == before


def test_extreme_logits_stay_finite(as_converted: Path) -> None:
    """No division by zero where all exponentials would be."""
    model = load(as_converted)
    for initializer in model.graph.initializer:
        if "logits" in initializer.name and "ReadVariableOp" in initializer.name:
            values = onnx.numpy_helper.to_array(initializer) * 1000
            initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
    simplify(model)
    rows = run(model, np.full((1, 300, 300, 3), 200, np.uint8))
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("crop", [0, 1])
def test_doubled_maps_are_gathered(crop: int) -> None:
    model = doubling(2, crop)
    graph = Graph(model)
    gather_doubled_maps(graph)
    graph.tidy()
    assert [n.op_type for n in graph.nodes()] == ["Transpose", "Gather", "Gather", "Transpose"]
    x = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    wanted = x.repeat(2, axis=2).repeat(2, axis=3)[:, :, : 8 - crop, : 10 - crop]
    session = onnx_network.open_session(model.SerializeToString())
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted)


def test_tripled_maps_are_left_alone() -> None:
    model = doubling(3, 0)
    gather_doubled_maps(Graph(model))
    assert "Gather" not in {node.op_type for node in model.graph.node}


def test_what_moves_no_map_is_left_alone() -> None:
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "xy"]
    node = helper.make_node("Unsqueeze", ["x", "axes"], ["y"])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph([node], "test", tensors[:1], tensors[1:], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    gather_doubled_maps(Graph(model))
    assert [n.op_type for n in model.graph.node] == ["Unsqueeze"]
