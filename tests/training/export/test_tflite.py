import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measurement.shipped import SHIPPED, load_detector
from tests.training.shipped_lite import shipped_lite
from training.data import records
from training.errors import TrainingError
from training.evaluation.measure import measure_network
from training.export import parity, precisions
from training.network import onnx_network
from training.network.lite_network import LiteSession


@pytest.fixture(scope="module")
def in_onnx() -> onnx_network.OnnxNetwork:
    return onnx_network.load_onnx(SHIPPED)


@pytest.fixture(scope="module")
def int8(smears: list[np.ndarray]) -> bytes:
    return shipped_lite().to_int8(smears[:2])


@pytest.fixture(scope="module")
def float16() -> bytes:
    return shipped_lite().to_float16()


def in_litert(content: bytes, like: onnx_network.OnnxNetwork) -> onnx_network.OnnxNetwork:
    return replace(like, session=LiteSession(content))


def test_tensors_are_the_same_in_every_precision(int8: bytes, float16: bytes) -> None:
    for content in (shipped_lite().network, float16, int8):
        tensors = LiteSession(content).tensors()
        assert list(tensors.items()) == [
            ("images", "uint8 [1, 300, 300, 3]"),
            ("boxes", "float32 [1, 400, 4]"),
            ("scores", "float32 [1, 400, 3]"),
        ]


def test_litert_agrees_with_keras_and_with_onnx_runtime() -> None:
    """At batch 1 and 3."""
    detector = load_detector()
    for session in (LiteSession(shipped_lite().network), onnx_network.open_session(SHIPPED)):
        assert parity.largest_difference(detector, session, 300) < parity.TOLERANCE


def test_another_network_is_refused(float16: bytes) -> None:
    with pytest.raises(TrainingError, match=r"model.tflite and TensorFlow differ by 0\.0"):
        parity.check_parity(load_detector(), LiteSession(float16), 300, "model.tflite")


def test_sizes(int8: bytes, float16: bytes) -> None:
    assert len(float16) < 0.51 * len(shipped_lite().network)
    assert len(int8) < 0.27 * len(shipped_lite().network)


def test_float16_is_close(
    float16: bytes, in_onnx: onnx_network.OnnxNetwork, smears: list[np.ndarray]
) -> None:
    images, allowed = np.stack(smears), precisions.FLOAT16_TOLERANCE
    precisions.check_close(in_onnx, in_litert(float16, in_onnx), images, allowed)


def test_int8_detects_the_same(
    int8: bytes, in_onnx: onnx_network.OnnxNetwork, smears: list[np.ndarray]
) -> None:
    """On what it was not calibrated on."""
    images = np.stack(smears[2:])
    wanted, found = in_onnx.rows(images), in_litert(int8, in_onnx).rows(images)
    for rows, others in zip(wanted, found, strict=True):
        sure = rows[rows[:, 4:].max(axis=1) > 0.5]
        distances = np.abs(sure[:, None] - others[None]).max(axis=-1).min(axis=1)
        assert len(sure) > 10
        assert np.median(distances) < 0.03


def test_only_what_lies_before_the_predictors_is_in_8_bits(int8: bytes) -> None:
    types = LiteSession(int8).types()
    outputs = {name: of for name, of in types.items() if name.endswith("1")}  # not weights
    heads = {of for name, of in outputs.items() if re.search("/(offsets|logits)_", name)}
    below = {of for name, of in outputs.items() if "_lateral_1/convolution" in name}
    assert (heads, below) == ({"float32"}, {"int8"})


def test_int8_reaches_the_map_of_float32(
    bccd_records: Path, in_onnx: onnx_network.OnnxNetwork
) -> None:
    """Within 0.01, calibrated as an export does, in LiteRT."""
    train, val = (records.load_manifest(bccd_records, split) for split in ("train", "val"))
    quantized = shipped_lite().to_int8(precisions.read_images(train, 300, 16))
    before, after = (
        measure_network(in_litert(network, in_onnx), val)
        for network in (shipped_lite().network, quantized)
    )
    assert before.map50 > 0.9
    assert after.map50 > before.map50 - 0.01
    assert after.map > before.map - 0.01
