"""Whatever holds a model, it is looked through in one way: that which is served."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import PROJECT
from tests.training.labelling.conftest import NETWORK
from tests.training.tiny_training import backbone
from training import checkpoints, run_folder
from training.labelling.model import load_model, measure_features
from training.network import model, onnx_network
from training.network.onnx_network import OnnxNetwork
from training.network.presets import SSD_COMPACT

FLOAT32 = PROJECT / "model_repository" / "ssd" / "1" / "model.onnx"
CHANNELS = 3 * 64 + 3 * 192  # of the six maps of ssd_compact


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), np.uint8)


def test_an_artifact_gives_what_it_gives_elsewhere(
    network: OnnxNetwork, images: np.ndarray
) -> None:
    np.testing.assert_array_equal(
        network.rows(images), onnx_network.load_onnx(NETWORK).rows(images)
    )


@pytest.mark.parametrize("path", [NETWORK, FLOAT32])  # one in int8
def test_features_are_those_of_the_predictors_maps(path: Path, images: np.ndarray) -> None:
    found = measure_features(load_model(path), images)
    assert (found.shape, found.dtype) == ((2, CHANNELS), np.float32)
    assert np.isfinite(found).all()
    assert len(np.unique(found[0])) > CHANNELS / 2
    assert np.abs(found[0] - found[1]).max() > 0


def test_a_run_is_looked_through_as_its_artifact(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "compact", backbone)
    source = model.build_network(SSD_COMPACT, 2)
    description = {"preset": dataclasses.asdict(SSD_COMPACT), "labels": ["a", "b"]}
    description |= {"settings": {}, "fingerprint": ""}
    run_folder.write_json(tmp_path / "run.json", description)
    checkpoints.save_checkpoint(tf.train.Checkpoint(average=source), tmp_path / "checkpoints", 1)
    network = load_model(tmp_path)
    assert network.labels == ("a", "b")
    wanted = model.Detector(source, SSD_COMPACT)(tf.constant(images))
    rows = np.concatenate([wanted["boxes"], wanted["scores"]], axis=-1)
    assert onnx_network.difference(network.rows(images), rows, slack=1e-4) < 1e-4
    maps = tf.keras.Model(source.input, [source.get_layer(f"logits_{k}").input for k in range(6)])
    pooled = [np.mean(each, axis=(1, 2)) for each in maps(tf.cast(images, tf.float32))]
    found, expected = measure_features(network, images), np.concatenate(pooled, axis=1)
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected, axis=1), atol=1e-4)
