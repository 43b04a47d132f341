"""Every layout in which Keras' VGG-16 comes: written by Keras itself, or by hand as Keras 1 wrote
the published files. The weights are random: only where they go counts."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from training.errors import TrainingError
from training.network import imagenet, model
from training.network.presets import SSD300_VGG16

Arrays = list[np.ndarray]  # kernel and bias


@pytest.fixture(scope="module")
def vgg16() -> keras.Model:
    """Keras' VGG-16 without the classifier, for SSD300's input, with random biases too."""
    network = keras.applications.VGG16(
        weights=None, include_top=False, input_shape=(300, 300, 3), name="vgg16"
    )
    generator = np.random.default_rng(5)
    for weight in network.weights:
        if weight.path.endswith("bias"):
            weight.assign(generator.normal(0, 3, weight.shape))
    return network


@pytest.fixture(scope="module")
def published(vgg16: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5: Keras 1's names, as bytes."""
    path = tmp_path_factory.mktemp("published") / "notop.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.name for layer in vgg16.layers], "S")
        for layer in vgg16.layers:
            _write_layer(file, layer.name, layer.get_weights())
    return path


@pytest.fixture(scope="module")
def ssd300() -> keras.Model:
    return model.build_network(SSD300_VGG16, 3)


@pytest.fixture
def network(ssd300: keras.Model) -> keras.Model:
    """SSD300 with all weights zero, so that a weight not loaded shows."""
    for weight in ssd300.weights:
        weight.assign(np.zeros(weight.shape))
    return ssd300


def _write_layer(file: h5py.Group, name: str, arrays: Arrays) -> None:
    group = file.create_group(name)
    names = [f"{name}_{kind}_1:0" for kind in "Wb"][: len(arrays)]
    group.attrs["weight_names"] = np.array(names, "S")
    for weight, array in zip(names, arrays, strict=True):
        group[weight] = array


def _list_layers(file: h5py.File, *names: bytes) -> None:
    file.attrs["layer_names"] = np.array([*file.attrs["layer_names"], *names])


def _save_legacy_weights(network: keras.Model, path: Path) -> None:
    """As `save_weights` of Keras 2 did; Keras 3 still has the writer, for whole models."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)


@pytest.mark.parametrize(
    ("save", "name"),
    [
        (_save_legacy_weights, "weights.h5"),
        (keras.Model.save, "model.h5"),
        (keras.Model.save_weights, "vgg16.weights.h5"),
        (keras.Model.save, "vgg16.keras"),
    ],
)
def test_layouts_that_keras_writes(
    save: Callable[[keras.Model, Path], None],
    name: str,
    network: keras.Model,
    vgg16: keras.Model,
    tmp_path: Path,
) -> None:
    save(vgg16, tmp_path / name)
    said = imagenet.load_imagenet(network, tmp_path / name)
    assert said.startswith(f"{name}: ")
    assert "fc6 and fc7 start random" in said
    _assert_same_convolutions(network, vgg16)
    assert not network.get_layer("fc6").kernel.numpy().any()


def _assert_same_convolutions(network: keras.Model, vgg16: keras.Model) -> None:
    theirs = [layer for layer in vgg16.layers if layer.weights]
    ours = [layer for layer in network.layers if layer.weights][:13]
    assert [layer.name for layer in ours][::6] == ["conv1_1", "conv3_3", "conv5_3"]
    for a, b in zip(ours, theirs, strict=True):
        for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y, err_msg=a.name)


def test_features_are_keras_own(network: keras.Model, vgg16: keras.Model, published: Path) -> None:
    """The same photo through both, each with its own preprocessing.

    At conv3_3 the maps are the same. Then SSD300 rounds 75 / 2 up to 38 and Keras rounds it down
    to 37: three 3x3 convolutions on, the 34 x 34 cells that see nothing of that edge still agree.
    """
    imagenet.load_imagenet(network, published)
    images = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3)).astype(np.float32)
    ours = _features(network, ["conv3_3", "conv4_3"], images)
    preprocessed = keras.applications.vgg16.preprocess_input(images.copy())
    theirs = _features(vgg16, ["block3_conv3", "block4_conv3"], preprocessed)
    assert ours[1].shape == (1, 38, 38, 512)
    scale = [np.abs(x).max() for x in theirs]
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5 * scale[0])
    np.testing.assert_allclose(ours[1][:, :34, :34], theirs[1][:, :34, :34], atol=1e-5 * scale[1])


def _features(network: keras.Model, names: list[str], images: np.ndarray) -> Arrays:
    outputs = [network.get_layer(name).output for name in names]
    return [x.numpy() for x in keras.Model(network.input, outputs)(images)]


def test_fc6_and_fc7_are_the_classifiers_with_holes(
    network: keras.Model, published: Path, tmp_path: Path
) -> None:
    """A 7x7 map that is 0 but for every third row and column, through the dense layers of VGG-16;
    and its other cells, twice as far apart on SSD's finer map, through fc6 and fc7."""
    path = shutil.copy(published, tmp_path / "top.h5")
    generator = np.random.default_rng(1)
    with h5py.File(path, "a") as file:
        dense = [_write_sparse(file, "fc1", 7 * 7 * 512, generator)]
        dense += [_write_sparse(file, "fc2", 4096, generator)]
        _list_layers(file, b"fc1", b"fc2")
    assert imagenet.load_imagenet(network, Path(path)).endswith("conv5_3, fc6 and fc7")

    cells = generator.normal(0, 1, (3, 3, 512)).astype(np.float32)
    coarse, fine = np.zeros((7, 7, 512), np.float32), np.zeros((1, 19, 19, 512), np.float32)
    coarse[::3, ::3] = cells
    fine[0, 3:16:6, 3:16:6] = cells
    hidden = dense[0](coarse.ravel())
    convolved = network.get_layer("fc6")(fine).numpy()
    assert np.count_nonzero(hidden[::4]) > 300
    np.testing.assert_allclose(convolved[0, 9, 9], hidden[::4], rtol=1e-4, atol=1e-5)

    kept = np.where(np.arange(4096) % 4 == 0, hidden, 0.0)
    found = network.get_layer("fc7")(convolved).numpy()[0, 9, 9]
    np.testing.assert_allclose(found, dense[1](kept)[::4], rtol=1e-4, atol=1e-5)


def _write_sparse(
    file: h5py.File, name: str, rows: int, generator: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """A dense layer with few weights that are not 0, so that its file is small; gives its function.

    A quarter of the rows and columns is of those that the subsampling keeps.
    """
    row, column = generator.integers(0, rows, 400), generator.integers(0, 4096, 400)
    column[::2] -= column[::2] % 4
    row[::2] -= row[::2] % (3 * 512 if name == "fc1" else 4)
    row[::2] += generator.integers(0, 512, 200) if name == "fc1" else 0
    values = generator.normal(0, 1, 400).astype(np.float32)
    bias = generator.normal(0, 1, 4096).astype(np.float32)
    _write_layer(file, name, [])
    file[name].attrs["weight_names"] = np.array(["W", "b"], "S")
    file[name]["b"] = bias
    kernel = file[name].create_dataset("W", (rows, 4096), "f4", chunks=(64, 64))
    for r, c, value in zip(row, column, values, strict=True):
        kernel[r, c] += value

    def layer(x: np.ndarray) -> np.ndarray:
        total = bias.copy()
        np.add.at(total, column, x[row] * values)
        return np.maximum(total, 0.0)

    return layer


def _vgg19(file: h5py.File) -> None:
    """VGG-19 has every layer of VGG-16, in the same shapes, and one more in each late block."""
    file.copy(file["block3_conv3"], "block3_conv4")
    _list_layers(file, b"block3_conv4")


def _theano(file: h5py.File) -> None:
    kernel = file["block5_conv3"]["block5_conv3_W_1:0"]
    values = kernel[()].transpose(3, 2, 0, 1)
    del file["block5_conv3"]["block5_conv3_W_1:0"]
    file["block5_conv3"]["block5_conv3_W_1:0"] = values


def _not_a_number(file: h5py.File) -> None:
    file["block5_conv3"]["block5_conv3_b_1:0"][7] = np.nan


def _half_a_classifier(file: h5py.File) -> None:
    _write_layer(file, "fc1", [])
    _list_layers(file, b"fc1")


def _other_layers(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"block5_conv3"]


def _lost_layer(file: h5py.File) -> None:
    del file["block5_conv3"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_vgg19, "does not hold VGG-16, which has no block3_conv4"),
        (_theano, r"block5_conv3 must have .* \(3, 3, 512, 512\) and .* \(512, 512, 3, 3\) and"),
        (_not_a_number, "the weights of conv5_3 are not finite"),
        (_half_a_classifier, r"weights of fc1 must have .* \(25088, 4096\) .* found no such layer"),
        (_other_layers, "the weights of block1_conv1 must have .* found no such layer"),
        (_lost_layer, "cannot be read .*block5_conv3"),
    ],
)
def test_another_network_changes_nothing(
    spoil: Callable[[h5py.File], None],
    said: str,
    network: keras.Model,
    published: Path,
    tmp_path: Path,
) -> None:
    path = Path(shutil.copy(published, tmp_path / "spoilt.h5"))
    with h5py.File(path, "a") as file:
        spoil(file)
    _assert_refused(network, path, said)


def _assert_refused(network: keras.Model, path: Path, said: str) -> None:
    with pytest.raises(TrainingError, match=said) as raised:
        imagenet.load_imagenet(network, path)
    assert str(path) in str(raised.value)
    assert not any(weight.numpy().any() for weight in network.weights)


def test_files_of_another_kind(network: keras.Model, published: Path, tmp_path: Path) -> None:
    expected = "expected a file of keras.applications.VGG16's weights"
    path = tmp_path / "vgg16.h5"
    _assert_refused(network, tmp_path, f"is not a file: {expected}")
    path.write_text("<html>404</html>")
    _assert_refused(network, path, f"cannot be read .*: {expected}")
    path.write_bytes(published.read_bytes()[:30_000_000])
    _assert_refused(network, path, f"cannot be read .*truncated.*: {expected}")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    _assert_refused(network, path, f"cannot be read .*model.weights.h5.*: {expected}")
    with h5py.File(path, "w"):
        pass
    _assert_refused(network, path, f"found no such layer; {expected}")


def test_another_preset(published: Path) -> None:
    network = keras.Sequential([keras.Input((1,))], name="ssd_compact")
    with pytest.raises(TrainingError, match="are for ssd300_vgg16, this is ssd_compact"):
        imagenet.load_imagenet(network, published)
