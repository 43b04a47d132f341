"""ssd_lite0 and ssd_mobilenet_v2: a backbone of inverted residuals under a light feature pyramid.

The pyramid (arXiv 1612.03144, section 3) and the layers before the predictors are separable
convolutions.
"""

import tensorflow as tf
from keras import layers

from training.network.blocks import add_from_above, conv
from training.network.inverted_residuals import RELU6, build_backbone
from training.network.presets import Preset

WIDTH = 64  # channels of the pyramid and of what stands before the predictors


def lite0(image: tf.Tensor, preset: Preset) -> list[tf.Tensor]:
    """The maps of strides 8, 16, 32, 64 and 128, [B, S / stride, S / stride, 64] each."""
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(image)
    return _pyramid(build_backbone(x, preset.name))


def mobilenet_v2(image: tf.Tensor, preset: Preset) -> list[tf.Tensor]:
    """As `lite0`."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    return _pyramid(build_backbone(x, preset.name))


def _pyramid(found: dict[int, tf.Tensor]) -> list[tf.Tensor]:
    """What the predictors see, from a backbone's maps of strides 8, 16 and 32."""
    lateral = {k: conv(found[k], f"lateral_{k}", WIDTH, 1, largest=RELU6) for k in (8, 16, 32)}
    maps = {32: _separable(lateral[32], "pyramid_32")}
    maps[16] = _separable(add_from_above(lateral[16], maps[32]), "pyramid_16")
    maps[8] = _separable(add_from_above(lateral[8], maps[16]), "pyramid_8")
    maps[64] = _separable(maps[32], "pyramid_64", stride=2)
    maps[128] = _separable(maps[64], "pyramid_128", stride=2)
    return [_separable(_separable(maps[k], f"head_{k}a"), f"head_{k}b") for k in sorted(maps)]


def _separable(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
    """Depthwise 3x3, then 1x1, batch normalisation, ReLU6."""
    x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(
        x
    )
    return conv(x, name, WIDTH, 1, largest=RELU6)
