import collections
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.training.networks import SHIPPED, load, run, stem
from training.data import records
from training.evaluation.measure import measure_network
from training.export import precisions
from training.export.onnx_graph import Graph
from training.export.quantize import between_convolutions, to_float16, to_int8
from training.network import onnx_network


@pytest.fixture(scope="module")
def int8(smears: list[np.ndarray]) -> onnx.ModelProto:
    return to_int8(load(SHIPPED), smears[:2])


@pytest.fixture(scope="module")
def float16() -> onnx.ModelProto:
    return to_float16(load(SHIPPED))


@pytest.fixture(scope="module")
def lite0_int8(lite0: Path, smears: list[np.ndarray]) -> onnx.ModelProto:
    return to_int8(load(lite0), [cv2.resize(photo, (320, 320)) for photo in smears[:2]])


def weights_of(model: onnx.ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(i) for i in model.graph.initializer]


def test_tensors_and_metadata_stay(int8: onnx.ModelProto, float16: onnx.ModelProto) -> None:
    original = load(SHIPPED)
    for model in (int8, float16):
        assert list(model.graph.input) == list(original.graph.input)
        assert list(model.graph.output) == list(original.graph.output)
        assert list(model.metadata_props) == list(original.metadata_props)
        assert [o for o in model.opset_import if not o.domain] == [
            o for o in original.opset_import if not o.domain
        ]


def test_int8_detects_the_same(int8: onnx.ModelProto, smears: list[np.ndarray]) -> None:
    """What it was not calibrated on."""
    images = np.stack(smears[2:])
    wanted, found = run(load(SHIPPED), images), run(int8, images)
    for rows, others in zip(wanted, found, strict=True):
        sure = rows[rows[:, 4:].max(axis=1) > 0.5]
        distances = np.abs(sure[:, None] - others[None]).max(axis=-1).min(axis=1)
        assert len(sure) > 10
        assert np.median(distances) < 0.03


def test_int8_reaches_the_map_of_float32(bccd_records: Path) -> None:
    """Within 0.01, on photos that it was not calibrated on."""
    train, val = (records.load_manifest(bccd_records, split) for split in ("train", "val"))
    quantized = to_int8(load(SHIPPED), list(precisions.read_images(train, 300, 16)))
    before, after = (
        measure_network(onnx_network.load_onnx(network.SerializeToString()), val)
        for network in (load(SHIPPED), quantized)
    )
    assert before.map50 > 0.9
    assert after.map50 > before.map50 - 0.01
    assert after.map > before.map - 0.01


def test_int8_is_a_quarter_in_size(int8: onnx.ModelProto) -> None:
    assert int8.ByteSize() < 0.3 * load(SHIPPED).ByteSize()


def test_bytes_go_straight_into_the_first_convolution(int8: onnx.ModelProto) -> None:
    graph = Graph(int8)
    assert graph.path("images", "Reshape", "Transpose", "DequantizeLinear", "Conv")


def test_every_convolution_of_lite0_but_the_predictors_computes_in_8_bits(
    lite0_int8: onnx.ModelProto, tmp_path: Path
) -> None:
    """As ONNX Runtime fuses it: nothing goes back to float32 and into 8 bits again."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4  # the file is for this machine, which it warns of
    onnxruntime.InferenceSession(lite0_int8.SerializeToString(), options)
    fused = collections.Counter(node.op_type for node in load(tmp_path / "fused.onnx").graph.node)
    operators = ("QLinearConv", "QLinearAdd", "QuantizeLinear", "Clip")
    assert [fused[x] for x in operators] == [81, 11, 0, 0]


def test_predictors_stay_float32(int8: onnx.ModelProto) -> None:
    graph = Graph(int8)
    computed = collections.Counter(graph.constant(n.input[1]) is None for n in graph.nodes("Conv"))
    # True: weights behind a DequantizeLinear; the others are the predictors.
    assert computed == {True: 27, False: 7}
    quantized = {node.input[0] for node in graph.nodes("QuantizeLinear")}
    assert not quantized & {"boxes", "scores"}


def test_weights_fit_into_7_bits(int8: onnx.ModelProto) -> None:
    """So that products cannot saturate on CPUs without VNNI."""
    small = [weights for weights in weights_of(int8) if weights.dtype == np.int8 and weights.ndim]
    assert max(int(np.abs(weights.astype(int)).max()) for weights in small) <= 64


def test_depthwise_convolutions_have_8_bits(lite0_int8: onnx.ModelProto) -> None:
    """Their products are added in 32 bits; those of the others must still not saturate."""
    largest: dict[bool, int] = collections.defaultdict(int)
    for weights in weights_of(lite0_int8):
        if weights.dtype == np.int8 and weights.ndim == 4:
            is_depthwise = weights.shape[1] == 1
            value = int(np.abs(weights.astype(int)).max())
            largest[is_depthwise] = max(largest[is_depthwise], value)
    assert largest == {True: 127, False: 64}


def test_all_8_bits_of_the_weights_on_demand(smears: list[np.ndarray]) -> None:
    whole = to_int8(load(SHIPPED), smears[:1], reduce_range=False)
    assert max(np.abs(w.astype(int)).max() for w in weights_of(whole) if w.dtype == np.int8) == 127


def test_float16_is_half_in_size_and_close(
    float16: onnx.ModelProto, smears: list[np.ndarray]
) -> None:
    assert float16.ByteSize() < 0.55 * load(SHIPPED).ByteSize()
    images = np.stack(smears)
    assert onnx_network.difference(run(load(SHIPPED), images), run(float16, images), 0.01) < 0.01
    kinds = {weights.dtype for weights in weights_of(float16) if weights.ndim == 4}
    assert kinds == {np.dtype(np.float16)}


def test_what_follows_the_predictors_stays_float32(float16: onnx.ModelProto) -> None:
    halves = {i.name for i in float16.graph.initializer if i.data_type == TensorProto.FLOAT16}
    graph = Graph(float16)
    for node in graph.nodes("Exp", "TopK", "Div", "Clip"):
        assert not halves.intersection(node.input)


def test_between_nodes_in_float32_nothing_is_rounded() -> None:
    """Not even where a node takes a tensor twice, and so a cast of it."""
    model = stem()
    model.graph.node.append(helper.make_node("Mul", ["d", "d"], ["z"], "square"))
    model.graph.output.append(model.graph.output[0])
    model.graph.output[1].name = "z"
    halved = to_float16(model)
    operators = [node.op_type for node in halved.graph.node]
    assert operators == ["Transpose", "Cast", "Add", "Cast", "Conv", "Cast", "Relu", "Mul"]


def test_the_given_network_stays_as_it_is(smears: list[np.ndarray]) -> None:
    model = load(SHIPPED)
    before = model.SerializeToString(deterministic=True)
    to_float16(model)
    to_int8(model, smears[:1])
    assert model.SerializeToString(deterministic=True) == before


def test_nothing_lies_between_no_convolutions() -> None:
    assert between_convolutions(Graph(onnx.ModelProto())) == []
