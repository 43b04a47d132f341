import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from training.export.onnx_graph import Graph


def model_of(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A model from x to y, float32 [batch, 4]."""
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "test", tensors[:1], tensors[1:])
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def test_an_empty_graph_stays_empty() -> None:
    graph = Graph(onnx.ModelProto())
    graph.tidy()
    assert graph.nodes() == []


def test_tidy_sorts_and_drops_what_nobody_reads() -> None:
    graph = Graph(model_of())
    graph.proto.node.append(helper.make_node("Neg", ["positive"], ["y"]))
    positive = graph.add("Abs", ["x"], "positive")
    graph.add("Exp", [positive])
    graph.add_constant("unread", np.float32(1))
    graph.tidy()
    assert [node.op_type for node in graph.nodes()] == ["Abs", "Neg"]
    assert not graph.proto.initializer
    session = onnxruntime.InferenceSession(graph.model.SerializeToString())
    assert session.run(None, {"x": np.full((1, 4), 2, np.float32)})[0].tolist() == [[-2] * 4]


def test_no_name_is_given_twice() -> None:
    graph = Graph(model_of(helper.make_node("Neg", ["x"], ["y"], "Neg")))
    assert graph.add_constant("y", np.float32(1)) == "y_2"
    assert graph.add("Abs", ["y"], "z") == "z"
    assert graph.add("Abs", ["x"]) != graph.add("Abs", ["x"])
    names = [node.name for node in graph.nodes()]
    assert len(set(names)) == len(names)


def test_constants_and_scalars() -> None:
    graph = Graph(model_of())
    graph.add_constant("one", np.array([[3]], np.float32))
    graph.add_constant("two", np.zeros(2, np.float32))
    assert graph.scalar("one") == 3
    assert graph.scalar("two") is None
    assert graph.constant("x") is None


def test_a_path_goes_over_single_readers() -> None:
    abs_, neg = helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])
    graph = Graph(model_of(abs_, neg))
    path = graph.path("x", "Abs", "Neg")
    assert path is not None
    assert [node.op_type for node in path] == ["Abs", "Neg"]
    assert graph.path("x", "Abs", "Exp") is None
    graph.add("Exp", ["a"])
    assert graph.path("x", "Abs", "Neg") is None


def test_an_output_has_other_readers_than_nodes() -> None:
    nodes = helper.make_node("Abs", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])
    assert Graph(model_of(*nodes)).only_reader("y", "Neg") is None


def test_shapes() -> None:
    graph = Graph(model_of(helper.make_node("Abs", ["x"], ["a"])))
    assert graph.shapes()["a"] == [None, 4]
