import numpy as np
import onnx
import pytest

from tests.training.networks import stem
from training.export.onnx_graph import Graph
from training.export.stem import merge_pixels, of_blocks, take_bytes
from training.network import onnx_network

IMAGES = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)


def answer(model: onnx.ModelProto) -> np.ndarray:
    session = onnx_network.open_session(model.SerializeToString())
    return np.stack(list(session.run(["y"], {"images": IMAGES})))[0]


@pytest.mark.parametrize("largest", [None, 1.0], ids=["ReLU", "up to 1"])
def test_blocks_give_what_pixels_gave(largest: float | None) -> None:
    """Up to the padded edges: with 0 for 128 instead of 127.5."""
    wanted = answer(stem(largest=largest))
    model = stem(largest=largest)
    graph = Graph(model)
    assert merge_pixels(graph)
    graph.tidy()
    onnx.checker.check_model(model, full_check=True)
    found = answer(model)
    np.testing.assert_allclose(found[:, :, :-1, :-1], wanted[:, :, :-1, :-1], atol=1e-4)
    np.testing.assert_allclose(found, wanted, atol=0.5 * 5 * 0.03)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_blocks_are_exact_where_padding_is(bias: bool) -> None:
    wanted = answer(stem(middle=-128, bias=bias))
    model = stem(middle=-128, bias=bias)
    graph = Graph(model)
    assert merge_pixels(graph)
    graph.tidy()
    np.testing.assert_allclose(answer(model), wanted, atol=1e-4)


@pytest.mark.parametrize("model", [stem(stride=1), stem(size=18)], ids=["stride", "width"])
def test_what_does_not_go_over_blocks_stays(model: onnx.ModelProto) -> None:
    before = [node.op_type for node in model.graph.node]
    assert merge_pixels(Graph(model)) is None
    assert [node.op_type for node in model.graph.node] == before


def test_weights_over_blocks() -> None:
    weights = np.arange(1, 28, dtype=np.float32).reshape(1, 3, 3, 3)
    blocks = of_blocks(weights)
    assert blocks.shape == (2, 12, 3, 2)
    left, right = blocks
    # The left output pixel sees the first three pixels of its block, the right one two and one.
    assert np.count_nonzero(left[:9, :, 0]) == 27
    assert not left[:, :, 1].any()
    assert not right[:6, :, 0].any()
    assert np.count_nonzero(right[:3, :, 1]) == 9
    assert left.sum() == right.sum() == weights.sum()


def test_bytes_are_taken_as_they_are() -> None:
    """Quantizing with scale 1 around 128 gives the image back."""
    model = stem(middle=-128)
    graph = Graph(model)
    pixels = merge_pixels(graph)
    assert pixels
    (convolution,) = graph.nodes("Conv")
    constants = [
        graph.add_constant("scale", np.float32(1)), graph.add_constant("zero", np.uint8(128))
    ]  # fmt: skip
    quantized = graph.add("QuantizeLinear", [pixels, *constants])
    convolution.input[0] = graph.add("DequantizeLinear", [quantized, *constants])
    graph.tidy()
    wanted = answer(model)
    take_bytes(Graph(model))
    Graph(model).tidy()
    assert "Cast" not in {node.op_type for node in model.graph.node}
    np.testing.assert_array_equal(answer(model), wanted)
