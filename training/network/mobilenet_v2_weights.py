"""Weights for the backbone of `ssd_mobilenet_v2`, by the loading code of `keras.applications`.

Read is what that publishes for MobileNetV2 of width 1.0, downloaded or a local copy, with the
classifier or without, and whatever Keras 2 or 3 saves of that model: .h5, .weights.h5, .keras.
"""

from pathlib import Path

import keras
import numpy as np

from training.errors import TrainingError
from training.network.inverted_residuals import backbone_layers

FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
_SHAPE = (224, 224, 3)  # of the images that the published weights were made with


def download_mobilenet_v2() -> keras.Model:
    """MobileNetV2 with the weights that Keras publishes, from its cache or the internet.

    Raises:
        TrainingError: they cannot be had, or are damaged.
    """
    try:
        return keras.applications.MobileNetV2(_SHAPE, include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises Exception itself
        raise TrainingError(
            "the ImageNet weights of ssd_mobilenet_v2 cannot be downloaded "
            f"({_first_line(error)}): without internet name Keras' file, --pretrained {FILE}, or "
            "start without, with --pretrained none, which needs many more photos"
        ) from None


def load_mobilenet_v2(network: keras.Model, path: Path | None = None) -> str:
    """Put pretrained weights into the backbone of a network that `model.build_network` made.

    The network is changed only after the whole file has been read and found good.

    Args:
        network: one of `ssd_mobilenet_v2`; any variables, mirrored ones too.
        path: see the module; None: what Keras publishes.

    Returns:
        A line that says what was loaded.

    Raises:
        TrainingError: the file cannot be read, is damaged, or holds another network.
    """
    source = _read_file(path) if path else download_mobilenet_v2()
    names = [layer.name for layer in backbone_layers(network)]
    weights = {name: source.get_layer(_keras_name(name)).get_weights() for name in names}
    for name, arrays in weights.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise TrainingError(f"{path or FILE} is damaged: the weights of {name} are not finite")
    for name, arrays in weights.items():
        network.get_layer(name).set_weights(arrays)
    return f"{path.name if path else FILE}: pretrained weights in the backbone"


def _read_file(path: Path) -> keras.Model:
    """MobileNetV2 with the weights of a file, which may hold the classifier or not."""
    errors = []
    for has_top in (False, True):
        try:
            return keras.applications.MobileNetV2(_SHAPE, include_top=has_top, weights=str(path))
        except Exception as error:  # h5py and Keras raise many types
            errors.append(_first_line(error))
    raise TrainingError(
        f"{path} is damaged, or holds another network ({errors[0]}): expected the weights of "
        "keras.applications.MobileNetV2, width 1.0, as .h5, .weights.h5 or .keras"
    )


def _keras_name(name: str) -> str:
    """`stem_norm` -> `bn_Conv1`, `block_0_project` -> `expanded_conv_project`."""
    if name.startswith("stem"):
        return "bn_Conv1" if name.endswith("_norm") else "Conv1"
    renamed = name.replace("block_0_", "expanded_conv_")
    return renamed.removesuffix("_norm") + ("_BN" if name.endswith("_norm") else "")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
