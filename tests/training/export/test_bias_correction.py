import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.training.networks import SHIPPED, load, run, stem
from training.export import quantize
from training.export.bias_correction import mean_inputs, shift_of_mean
from training.network import onnx_network


@pytest.mark.parametrize("groups", [1, 2, 4], ids=["plain", "grouped", "depthwise"])
def test_the_shift_is_that_of_a_convolutions_mean(groups: int) -> None:
    generator = np.random.default_rng(0)
    lost = generator.normal(0, 1, (8, 4 // groups, 3, 2)).astype(np.float32)
    x = generator.normal(0, 1, (5, 4, 1, 1)).astype(np.float32).repeat(3, 2).repeat(2, 3)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups)
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(lost, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnx_network.open_session(model.SerializeToString())
    wanted = np.mean(session.run(None, {"x": x})[0], axis=(0, 2, 3))
    found = shift_of_mean(lost, x.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_means_of_what_a_convolution_takes() -> None:
    model = stem()
    model.graph.node[3].name = "first"
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    found = mean_inputs(model, list(images))
    np.testing.assert_allclose(found["first"], images.mean(axis=(0, 1, 2)) - 127.5, rtol=1e-4)
    assert len(model.graph.output) == 1


def test_int8_is_closer_with_corrected_biases(
    smears: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On what it was not calibrated on."""
    with_it = quantize.to_int8(load(SHIPPED), smears[:2])
    monkeypatch.setattr(quantize, "correct_biases", lambda *_: None)
    without = quantize.to_int8(load(SHIPPED), smears[:2])
    images = np.stack(smears[2:])
    wanted = run(load(SHIPPED), images)
    assert _distance(wanted, run(with_it, images)) < 0.9 * _distance(wanted, run(without, images))


def _distance(rows: np.ndarray, others: np.ndarray) -> float:
    """Of the sure boxes and their scores to the nearest of the others, on average."""
    distances = []
    for row, other in zip(rows, others, strict=True):
        sure = row[row[:, 4:].max(axis=1) > 0.3]
        distances += list(np.abs(sure[:, None] - other[None]).max(axis=-1).min(axis=1))
    return float(np.mean(distances))
