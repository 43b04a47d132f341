"""ImageNet weights for `ssd300_vgg16`, from a local file of Keras' VGG-16.

Read are the published files of `keras.applications.VGG16`, with the classifier
(vgg16_weights_tf_dim_ordering_tf_kernels.h5) or without it (..._notop.h5), and whatever Keras 2
or 3 saves of that model: .h5, .weights.h5, .keras.

The 13 convolutions are taken as they are. fc6 and fc7 are subsampled from the classifier's first
two layers (SSD, section 3 "Base network"); a file without it leaves them as they are, random.
"""

import io
import itertools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import keras
import numpy as np

from training.errors import TrainingError

# keras.applications' names and the paper's, in the order of the network.
_CONVOLUTIONS = {
    f"block{block}_conv{index}": f"conv{block}_{index}"
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
    for index in range(1, depth + 1)
}
_CLASSIFIER = {"fc1": [(7 * 7 * 512, 4096), (4096,)], "fc2": [(4096, 4096), (4096,)]}
_EVERY = 4  # of the classifier's 4,096 channels every fourth is kept, 1,024
_EXPECTED = "expected a file of keras.applications.VGG16's weights: .h5, .weights.h5 or .keras"

_Datasets = dict[str, list[h5py.Dataset]]  # kernel and bias of each layer, by Keras' name


def load_imagenet(network: keras.Model, path: Path) -> str:
    """Put ImageNet weights into a network that `model.build_network` made from `ssd300_vgg16`.

    The network is changed only after the whole file has been read and found good.

    Args:
        network: changed in place; any variables, mirrored ones too.
        path: see the module.

    Returns:
        A line that says which layers were set and which stay random.

    Raises:
        TrainingError: the network is another, the file cannot be read, it is not VGG-16's, or it
            holds numbers that are not finite.
    """
    if network.name != "ssd300_vgg16":
        raise TrainingError(f"ImageNet weights are for ssd300_vgg16, this is {network.name}")
    with _opened(path) as file:
        found = _datasets(file)
        _check_shapes(network, path, found)
        weights = _weights(found)
    for name, arrays in weights.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise TrainingError(f"{path} is damaged: the weights of {name} are not finite")
    for name, arrays in weights.items():
        network.get_layer(name).set_weights(arrays)
    if "fc6" in weights:
        return f"{path.name}: ImageNet weights in conv1_1 to conv5_3, fc6 and fc7"
    return (
        f"{path.name}: ImageNet weights in conv1_1 to conv5_3; fc6 and fc7 start random, "
        "because the file was saved without VGG-16's classifier"
    )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file, or the one inside a .keras archive; what goes wrong in it names the file."""
    if not path.is_file():
        raise TrainingError(f"{path} is not a file: {_EXPECTED}")
    try:
        source: Path | io.BytesIO = path
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(source) as file:
            yield file
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path} cannot be read ({error}): {_EXPECTED}") from None


def _datasets(file: h5py.File) -> _Datasets:
    root = file.get("model_weights", file)  # a whole model's .h5 has its weights one level down
    if "layer_names" in root.attrs:
        groups = {name: root[name] for name in _strings(root, "layer_names")}
        return {
            name: [group[weight] for weight in _strings(group, "weight_names")]
            for name, group in groups.items()
        }
    # Keras 3 numbers the layers of a kind in the order of the network.
    numbered = {name: f"conv2d_{i}" if i else "conv2d" for i, name in enumerate(_CONVOLUTIONS)}
    numbered |= {"fc1": "dense", "fc2": "dense_1"}
    groups = {name: file.get(f"layers/{group}/vars") for name, group in numbered.items()}
    return {name: [*group.values()] for name, group in groups.items() if group}


def _strings(group: h5py.Group, attribute: str) -> list[str]:
    names = group.attrs[attribute]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _check_shapes(network: keras.Model, path: Path, found: _Datasets) -> None:
    expected = {
        name: [tuple(w.shape) for w in network.get_layer(ours).weights]
        for name, ours in _CONVOLUTIONS.items()
    }
    if found.keys() & _CLASSIFIER.keys():
        expected |= _CLASSIFIER
    for name, shapes in expected.items():
        actual = [w.shape for w in found.get(name, [])]
        if actual != shapes:
            raise TrainingError(
                f"{path} does not hold VGG-16: the weights of {name} must have the shapes "
                f"{_shown(shapes)}, found {_shown(actual)}; {_EXPECTED}"
            )
    # VGG-19 has all layers of VGG-16 and three more.
    surplus = [name for name in found if name.startswith("block") and name not in expected]
    surplus = [name for name in surplus if found[name]]
    if surplus:
        raise TrainingError(f"{path} does not hold VGG-16, which has no {', '.join(surplus)}")


def _shown(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes) or "no such layer"


def _weights(found: _Datasets) -> dict[str, list[np.ndarray]]:
    """Kernel and bias, float32, by the paper's names."""
    weights = {ours: [w[()] for w in found[name]] for name, ours in _CONVOLUTIONS.items()}
    if "fc1" in found:
        weights["fc6"] = [_fc6_kernel(found["fc1"][0]), found["fc1"][1][::_EVERY]]
        fc7_kernel = found["fc2"][0][::_EVERY][:, ::_EVERY]
        weights["fc7"] = [fc7_kernel[None, None], found["fc2"][1][::_EVERY]]
    return {name: [np.asarray(w, np.float32) for w in pair] for name, pair in weights.items()}


def _fc6_kernel(fc1_kernel: h5py.Dataset) -> np.ndarray:
    """[7 * 7 * 512, 4096] -> [3, 3, 512, 1024]: every third row, column, every fourth channel.

    In VGG-16 the kept cells lie 3 apart on a map of stride 32; on SSD's of stride 16 they lie 6
    apart, which is fc6's dilation: the holes of the à trous algorithm are the cells left out.
    """
    kernel = np.empty((3, 3, 512, 4096 // _EVERY), np.float32)
    for y, x in itertools.product(range(3), repeat=2):
        start = (3 * y * 7 + 3 * x) * 512  # Keras flattens row, column, channel
        kernel[y, x] = fc1_kernel[start : start + 512][:, ::_EVERY]
    return kernel
