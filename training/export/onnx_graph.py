"""An ONNX graph to be rewritten: who makes a tensor, who reads it, which are constants."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """A model's graph. What changes it, changes the model; `tidy` comes last.

    Nodes may be added in any order, and nodes whose outputs nobody reads any more may stay, until
    `tidy` sorts the graph and drops those.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.proto = model.graph

    def nodes(self, *operators: str) -> list[onnx.NodeProto]:
        """The nodes of these operators, or all of them, in the graph's order."""
        return [n for n in self.proto.node if not operators or n.op_type in operators]

    def constant(self, tensor: str) -> np.ndarray | None:
        """A tensor's value; None where it is computed."""
        found = (i for i in self.proto.initializer if i.name == tensor)
        return next((numpy_helper.to_array(i) for i in found), None)

    def scalar(self, tensor: str) -> float | None:
        """The value of a constant of one element; None for anything else."""
        value = self.constant(tensor)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def window(self, convolution: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray] | None:
        """Weights and bias of a convolution, zeros where it has none; None where not constant."""
        names = [name for name in convolution.input[1:] if name]
        known = [value for name in names if (value := self.constant(name)) is not None]
        if len(known) < len(names):
            return None
        weights = known[0]
        return weights, known[1] if known[1:] else np.zeros(len(weights), weights.dtype)

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that computes a tensor; None for inputs and constants."""
        return next((n for n in self.proto.node if tensor in n.output), None)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that take a tensor."""
        return [n for n in self.proto.node if tensor in n.input]

    def only_reader(self, tensor: str, *operators: str) -> onnx.NodeProto | None:
        """The one node that takes a tensor, if it is one of these operators."""
        readers = self.readers(tensor)
        is_output = any(tensor == output.name for output in self.proto.output)
        if len(readers) != 1 or is_output or readers[0].op_type not in operators:
            return None
        return readers[0]

    def path(self, tensor: str, *operators: str) -> list[onnx.NodeProto] | None:
        """The nodes of these operators that follow a tensor, each the only reader of the last."""
        nodes: list[onnx.NodeProto] = []
        for operator in operators:
            node = self.only_reader(tensor, operator)
            if node is None:
                return None
            nodes.append(node)
            tensor = node.output[0]
        return nodes

    def shapes(self) -> dict[str, list[int | None]]:
        """Every tensor's shape, as far as it can be inferred; None for a size that is free."""
        graph = onnx.shape_inference.infer_shapes(self.model, data_prop=True).graph
        tensors = (*graph.input, *graph.value_info, *graph.output)
        return {
            tensor.name: [
                size.dim_value if size.HasField("dim_value") else None
                for size in tensor.type.tensor_type.shape.dim
            ]
            for tensor in tensors
        }

    def add_constant(self, name: str, value: np.ndarray | np.generic) -> str:
        """A new constant; returns its name."""
        name = self.free_name(name)
        self.proto.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(
        self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any
    ) -> str:
        """A new node with one output, whose name it returns; both are named after the operator."""
        output = output or self.free_name(f"{operator}_of_{inputs[0]}")
        node = helper.make_node(operator, inputs, [output], self.free_name(output), **attributes)
        self.proto.node.append(node)
        return output

    def free_name(self, name: str) -> str:
        """The name, or one like it that neither a node nor a tensor has."""
        taken = {i.name for i in self.proto.initializer} | {n.name for n in self.proto.node}
        taken.update(tensor for n in self.proto.node for tensor in (*n.input, *n.output))
        return next(n for n in [name, *(f"{name}_{k}" for k in range(2, 1000))] if n not in taken)

    def remove(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Take nodes out."""
        for node in nodes:
            self.proto.node.remove(node)

    def tidy(self) -> None:
        """Put the nodes in an order that can run, and drop those that lead to no output."""
        waiting, known = list(self.proto.node), {""}
        known.update(tensor.name for tensor in self.proto.input)
        known.update(tensor.name for tensor in self.proto.initializer)
        order: list[onnx.NodeProto] = []
        while waiting:
            order.append(next(n for n in waiting if known.issuperset(n.input)))
            waiting.remove(order[-1])
            known.update(order[-1].output)
        read = {output.name for output in self.proto.output}
        kept: list[onnx.NodeProto] = []
        for node in reversed(order):
            if read.intersection(node.output):
                read.update(node.input)
                kept.insert(0, node)
        constants = [i for i in self.proto.initializer if i.name in read]
        del self.proto.node[:], self.proto.initializer[:], self.proto.value_info[:]
        self.proto.node.extend(kept)
        self.proto.initializer.extend(constants)
