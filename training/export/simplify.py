"""Rewrites the graph that tf2onnx writes so that ONNX Runtime is faster at equal outputs.

Each rewriting looks for one pattern, and leaves a graph that does not have it as it is. Together
they save a twentieth of the compact preset's time on one core with AVX-512 in float32, and more in
int8, where what is no convolution weighs more.
"""

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from training.export.onnx_graph import Graph

_MOVES = ("Unsqueeze", "Tile", "Transpose", "Reshape", "Slice")  # what doubling a map consists of
_LARGEST_LOGIT = 60.0  # e^60 and the sum of its like are far from float32's limits


def simplify(model: onnx.ModelProto) -> None:
    """All rewritings, in place."""
    graph = Graph(model)
    for rewrite in (
        fold_norms,
        fix_shapes,
        gather_doubled_maps,
        join_heads,
        divide_late,
        normalise_late,
    ):
        rewrite(graph)
        graph.tidy()


def fold_norms(graph: Graph) -> None:
    """What multiplies a convolution's channels and is added to them goes into weights and bias.

    That is batch normalisation, which tf2onnx folds by itself, but not into depthwise convolutions.
    """
    for node in graph.nodes("Conv"):
        path, window = graph.path(node.output[0], "Mul", "Add"), graph.window(node)
        if path is None or window is None:
            continue
        weights, bias = window
        scale, shift = (_of_channels(graph, step.input[1], len(bias)) for step in path)
        if scale is None or shift is None:
            continue
        folded = {"weights": weights * scale[:, None, None, None], "bias": bias * scale + shift}
        constants = [graph.add_constant(f"{node.name}_{k}", x) for k, x in folded.items()]
        node.input[:] = [node.input[0], *constants]
        node.output[0] = path[-1].output[0]
        graph.remove(path)


def _of_channels(graph: Graph, tensor: str, channels: int) -> np.ndarray | None:
    """A constant's value for each channel of a map, [channels]; None for anything else."""
    value = graph.constant(tensor)
    return None if value is None or value.shape != (1, channels, 1, 1) else value.reshape(channels)


def fix_shapes(graph: Graph) -> None:
    """Shapes that are computed from the batch size become constants, with -1 for the batch.

    A third of the nodes does nothing else, at a few microseconds each.
    """
    shapes = graph.shapes()
    for node in graph.nodes("Reshape"):
        shape = shapes.get(node.output[0], [])
        if graph.constant(node.input[1]) is None and shape and shape.count(None) <= 1:
            target = np.array([-1 if size is None else size for size in shape], np.int64)
            node.input[1] = graph.add_constant(f"{node.name}_shape", target)


def gather_doubled_maps(graph: Graph) -> None:
    """Doubling a map (nearest neighbour) becomes two gathers, which copy pixels and crop as well.

    tf2onnx writes it as up to nine nodes, in a layout of its own. As Resize, ONNX Runtime takes
    four times as long for it in uint8.
    """
    shapes = graph.shapes()
    for first in graph.nodes("Unsqueeze"):
        chain = _chain(graph, first)
        if not any(node.op_type == "Tile" for node in chain):
            continue
        small, large = first.input[0], chain[-1].output[0]
        size = _doubled_size(graph, chain, shapes.get(small, []))
        if size is None:
            continue
        graph.remove(chain)
        x = graph.add("Transpose", [small], perm=[0, 2, 3, 1])
        for axis, length in zip((1, 2), size, strict=True):
            rows = graph.add_constant("doubled", np.arange(length, dtype=np.int64) // 2)
            x = graph.add("Gather", [x, rows], axis=axis)
        graph.add("Transpose", [x], large, perm=[0, 3, 1, 2])


def _chain(graph: Graph, first: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes that only move data, one after the other, from this one on."""
    chain = [first]
    while node := graph.only_reader(chain[-1].output[0], *_MOVES):
        chain.append(node)
    return chain


def _doubled_size(
    graph: Graph, chain: list[onnx.NodeProto], input_shape: list[int | None]
) -> tuple[int, int] | None:
    """Height and width of the result if the chain doubles a map [B, C, H, W], else None.

    Found by running it on numbers that tell where each came from.
    """
    source, target = chain[0].input[0], chain[-1].output[0]
    constants = [i for i in graph.proto.initializer if any(i.name in n.input for n in chain)]
    known = {i.name for i in constants} | {source, *(node.output[0] for node in chain)}
    shape = [size or 0 for size in input_shape[1:]]
    if len(shape) != 3 or not known.issuperset(name for node in chain for name in node.input):
        return None
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    part = helper.make_graph(
        chain,
        "part",
        [helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info(target, onnx.TensorProto.FLOAT, None)],
        constants,
    )
    opsets = graph.model.opset_import
    evaluator = ReferenceEvaluator(helper.make_model(part, opset_imports=opsets))
    moved = np.stack(list(evaluator.run(None, {source: values})))[0]
    height, width = moved.shape[2:] if moved.ndim == 4 else (0, 0)
    doubled = values.repeat(2, axis=2).repeat(2, axis=3)[:, :, :height, :width]
    return (height, width) if moved.size and np.array_equal(moved, doubled) else None


def join_heads(graph: Graph) -> None:
    """Convolutions of the same map with the same window become one, whose output is split.

    That is each map's two predictors: a few channels each, and a convolution computes 16 at once.
    """
    groups: dict[tuple[str, ...], list[onnx.NodeProto]] = {}
    for node in graph.nodes("Conv"):
        constant = [graph.constant(name) for name in node.input[1:]]
        activated = graph.only_reader(node.output[0], "Relu", "Clip")
        if len(constant) != 2 or constant[0] is None or constant[1] is None or activated:
            continue
        attributes = sorted(a.SerializeToString() for a in node.attribute)
        key = (node.input[0], str(constant[0].shape[1:]), str(attributes))
        groups.setdefault(key, []).append(node)
    for group in groups.values():
        if len(group) > 1:
            _join(graph, group)


def _join(graph: Graph, convolutions: list[onnx.NodeProto]) -> None:
    first = convolutions[0]
    weights, biases = (
        [value for node in convolutions if (value := graph.constant(node.input[k])) is not None]
        for k in (1, 2)
    )
    joined = graph.add(
        "Conv",
        [
            first.input[0],
            graph.add_constant("joined_weights", np.concatenate(weights)),
            graph.add_constant("joined_bias", np.concatenate(biases)),
        ],
    )
    graph.nodes()[-1].attribute.extend(first.attribute)
    counts = np.array([len(bias) for bias in biases], np.int64)
    sizes = graph.add_constant("joined_sizes", counts)
    outputs = [node.output[0] for node in convolutions]
    graph.remove(convolutions)
    split = helper.make_node("Split", [joined, sizes], outputs, graph.free_name("Split"), axis=1)
    graph.proto.node.append(split)


def divide_late(graph: Graph) -> None:
    """Softmax's division is done for each box's best score, and for all scores of the kept boxes.

    Softmax of four numbers at a time takes four times as long as what is left of it. Without its
    subtraction of the largest logit, logits are limited, to 60 on either side of 0.
    """
    for softmax in graph.nodes("Softmax"):
        scores = graph.only_reader(softmax.output[0], "Slice")
        if scores is None or len(graph.readers(scores.output[0])) != 2:
            continue
        readers = {node.op_type: node for node in graph.readers(scores.output[0])}
        if readers.keys() == {"GlobalMaxPool", "GatherND"}:
            _divide_late(graph, softmax, scores, readers["GlobalMaxPool"], readers["GatherND"])


def _divide_late(
    graph: Graph,
    softmax: onnx.NodeProto,
    scores: onnx.NodeProto,
    best: onnx.NodeProto,
    kept: onnx.NodeProto,
) -> None:
    graph.remove((softmax, scores, best, kept))
    limits = [graph.add_constant("logit", np.float32(x)) for x in (-_LARGEST_LOGIT, _LARGEST_LOGIT)]
    powers = graph.add("Exp", [graph.add("Clip", [softmax.input[0], *limits])])
    last = graph.add_constant("last", np.array([-1], np.int64))
    sums = graph.add("ReduceSum", [powers, last], keepdims=1)  # [B, A, 1]
    objects = graph.add("Slice", [powers, *scores.input[1:]])  # [B, A, C]
    largest = graph.add("ReduceMax", [objects], axes=[-1], keepdims=1)
    graph.add("Div", [largest, sums], best.output[0])
    rows = [
        graph.add("GatherND", [tensor, kept.input[1]], batch_dims=1) for tensor in (objects, sums)
    ]
    graph.add("Div", rows, kept.output[0])


def normalise_late(graph: Graph) -> None:
    """Pixels are put channels first while they are bytes, and the first weights scale them.

    Of `(images * scale + offset)` only the addition stays, before which padding must not come.
    """
    path = graph.path("images", "Cast", "Mul", "Add", "Transpose", "Conv")
    if path is None:
        return
    _, multiply, add, transpose, convolution = path
    scale, offset = (graph.scalar(node.input[1]) for node in (multiply, add))
    weights = graph.constant(convolution.input[1])
    if scale is None or offset is None or weights is None:
        return
    graph.remove(path[:-1])
    order = helper.get_node_attr_value(transpose, "perm")
    pixels = graph.add("Transpose", ["images"], perm=order)
    pixels = graph.add("Cast", [pixels], to=onnx.TensorProto.FLOAT)
    middle = graph.add_constant("middle", np.float32(offset / scale))
    convolution.input[0] = graph.add("Add", [pixels, middle])
    scaled = (weights * scale).astype(np.float32)
    convolution.input[1] = graph.add_constant("first_weights", scaled)
