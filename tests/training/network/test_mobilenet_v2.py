"""ssd_mobilenet_v2: the backbone is Keras' own, and its weights come from Keras' files alone."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend import config
from keras.src.legacy.saving import legacy_h5_format

from training.errors import TrainingError
from training.network import model
from training.network.inverted_residuals import backbone_layers
from training.network.mobilenet_v2_weights import FILE, download_mobilenet_v2, load_mobilenet_v2
from training.network.presets import SSD_MOBILENET_V2, set_input_size

SHAPE = (224, 224, 3)
PRESET = set_input_size(SSD_MOBILENET_V2, 160)


def _randomise(network: keras.Model) -> keras.Model:
    """Statistics too, as if it had been trained."""
    generator = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([generator.uniform(0.5, 1.5, shape) for _ in range(4)])
    return network


def _save_legacy(network: keras.Model, path: Path) -> Path:
    """The format of the files that Keras publishes."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    return path


@pytest.fixture(scope="module")
def original() -> keras.Model:
    return _randomise(keras.applications.MobileNetV2(SHAPE, include_top=False, weights=None))


@pytest.fixture(scope="module")
def file(original: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_legacy(original, tmp_path_factory.mktemp("weights") / FILE)


@pytest.fixture(scope="module")
def built() -> keras.Model:
    return model.build_network(PRESET, 2)


@pytest.fixture
def network(built: keras.Model) -> keras.Model:
    """Ours with all weights zero, so that a weight not loaded shows."""
    return _empty(built)


def _empty(network: keras.Model) -> keras.Model:
    for weight in network.weights:
        weight.assign(np.zeros(weight.shape))
    return network


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an internet that nobody answers in."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # Made at the first urlopen() of a process, with the proxies of then, and kept for all others.
    monkeypatch.setattr("urllib.request._opener", None)
    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path / "keras"))
    return tmp_path / "keras"


def test_the_backbone_computes_what_keras_own_does(
    original: keras.Model, file: Path, network: keras.Model
) -> None:
    """Same weights, same maps at the strides that the pyramid takes; normalising is inside."""
    assert load_mobilenet_v2(network, file) == f"{FILE}: pretrained weights in the backbone"
    smaller = keras.applications.MobileNetV2((160, 160, 3), include_top=False, weights=None)
    smaller.set_weights(original.get_weights())
    pairs = {
        "block_5_add": "block_5_project_norm",
        "block_12_add": "block_12_project_norm",
        "block_16_project_BN": "block_16_project_norm",
    }
    images = tf.random.stateless_uniform((1, 160, 160, 3), [0, 1], 0.0, 255.0)
    wanted = keras.Model(smaller.input, [smaller.get_layer(k).output for k in pairs])(
        keras.applications.mobilenet_v2.preprocess_input(images)
    )
    sums = {"block_5_project_norm", "block_12_project_norm"}
    ends = [_sum_after(network, ours) if ours in sums else network.get_layer(ours).output
            for ours in pairs.values()]  # fmt: skip
    found = keras.Model(network.input, ends)(images)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())


def _sum_after(network: keras.Model, name: str) -> keras.KerasTensor:
    (node,) = network.get_layer(name)._outbound_nodes
    return node.operation.output


def test_what_ends_at_a_stride(network: keras.Model) -> None:
    last = {stride: backbone_layers(network, stride)[-1].name for stride in (2, 4, 8, 16, 32)}
    assert last == {
        2: "block_0_project_norm",
        4: "block_2_project_norm",
        8: "block_5_project_norm",
        16: "block_12_project_norm",
        32: "block_16_project_norm",
    }


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "with_classifier.h5"])
def test_other_files_of_the_same_network(
    name: str, original: keras.Model, file: Path, network: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / name
    if name.startswith("with"):
        whole = keras.applications.MobileNetV2(SHAPE, weights=None)
        for layer in (layer for layer in original.layers if layer.weights):
            whole.get_layer(layer.name).set_weights(layer.get_weights())
        _save_legacy(whole, path)
    else:
        (original.save if name.endswith(".keras") else original.save_weights)(path)
    load_mobilenet_v2(network, file)
    wanted = [layer.get_weights() for layer in backbone_layers(network)]
    load_mobilenet_v2(_empty(network), path)
    for weights, layer in zip(wanted, backbone_layers(network), strict=True):
        for was, now in zip(weights, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(was, now)


def _truncate(path: Path, file: Path) -> None:
    path.write_bytes(file.read_bytes()[:1_000_000])


def _write_text(path: Path, _: Path) -> None:
    path.write_text("no weights")


def _narrow(path: Path, _: Path) -> None:
    network = keras.applications.MobileNetV2(SHAPE, 0.5, include_top=False, weights=None)
    _save_legacy(network, path)


def _another(path: Path, _: Path) -> None:
    _save_legacy(keras.applications.MobileNet(SHAPE, include_top=False, weights=None), path)


def _not_a_number(path: Path, file: Path) -> None:
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as opened:
        group = opened["block_7_project"]
        (name,) = group.attrs["weight_names"]
        group[name][0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, "is damaged, or holds another network"),
        (_write_text, "is damaged, or holds another network"),
        (_narrow, "is damaged, or holds another network"),
        (_another, "is damaged, or holds another network"),
        (_not_a_number, "is damaged: the weights of block_7_project are not finite"),
    ],
)
def test_a_file_that_is_damaged_or_another_is_refused_and_nothing_changes(
    spoil, message: str, file: Path, network: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / "weights.h5"
    spoil(path, file)
    before = [np.array(weight) for weight in network.weights]
    with pytest.raises(TrainingError, match=rf"weights\.h5 {message}") as told:
        load_mobilenet_v2(network, path)
    assert "\n" not in str(told.value)
    for was, now in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(was, now)


def test_without_internet_one_sentence_says_what_to_do(keras_home: Path) -> None:
    with pytest.raises(TrainingError, match=rf"cannot be downloaded .*--pretrained {FILE}, or"):
        download_mobilenet_v2()


def test_what_was_downloaded_before_is_found(
    keras_home: Path, file: Path, network: keras.Model
) -> None:
    (keras_home / "models").mkdir(parents=True)
    (keras_home / "models" / FILE).write_bytes(file.read_bytes())
    assert load_mobilenet_v2(network) == f"{FILE}: pretrained weights in the backbone"
