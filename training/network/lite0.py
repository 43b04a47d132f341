"""ssd_lite0: EfficientNet-Lite0 under a light feature pyramid.

The backbone is EfficientNet-B0 (arXiv 1905.11946, table 1) without squeeze-and-excitation and with
ReLU6 in place of swish, which 8 bits take well; stem and first block are not scaled
(github.com/tensorflow/tpu, models/official/efficientnet/lite). The pyramid (arXiv 1612.03144,
section 3) and the layers before the predictors are separable convolutions.

Layers of the backbone are called `stem`, `block_0_depthwise`, `block_0_project`, `block_1_expand`
and so on, their batch normalisations `..._norm`; by these names `lite0_weights` finds them.
"""

from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import layers

from training.network.blocks import add_from_above, conv, norm
from training.network.presets import Preset

RELU6 = 6.0
WIDTH = 64  # channels of the pyramid and of what stands before the predictors


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them changes the resolution."""

    blocks: int
    kernel: int
    stride: int
    expansion: int  # channels inside a block, in terms of those that enter it
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),  # stride 2 of the image
    Stage(2, 3, 2, 6, 24),  # 4
    Stage(2, 5, 2, 6, 40),  # 8
    Stage(3, 3, 2, 6, 80),  # 16
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),  # 32
    Stage(1, 3, 1, 6, 320),
)
STRIDES = (2, 4, 8, 16, 32)  # of the maps that the backbone ends a resolution with


def lite0(image: tf.Tensor, _preset: Preset) -> list[tf.Tensor]:
    """The maps of strides 8, 16, 32, 64 and 128, [B, S / stride, S / stride, 64] each."""
    found = _backbone(image)
    lateral = {k: conv(found[k], f"lateral_{k}", WIDTH, 1, largest=RELU6) for k in (8, 16, 32)}
    maps = {32: _separable(lateral[32], "pyramid_32")}
    maps[16] = _separable(add_from_above(lateral[16], maps[32]), "pyramid_16")
    maps[8] = _separable(add_from_above(lateral[8], maps[16]), "pyramid_8")
    maps[64] = _separable(maps[32], "pyramid_64", stride=2)
    maps[128] = _separable(maps[64], "pyramid_128", stride=2)
    return [_separable(_separable(maps[k], f"head_{k}a"), f"head_{k}b") for k in sorted(maps)]


def backbone_layers(network: keras.Model, stride: int = 32) -> list[layers.Layer]:
    """The backbone's layers with weights, from the image to the last map of a stride (2 to 32)."""
    reached, last = 2, 0
    for stage in STAGES:
        reached *= stage.stride
        last += stage.blocks if reached <= stride else 0
    names = ("stem", *(f"block_{number}_" for number in range(last)))
    return [x for x in network.layers if x.weights and x.name.startswith(names)]


def _backbone(image: tf.Tensor) -> dict[int, tf.Tensor]:
    """The last map of each stride: 8 has 40 channels, 16 has 112, 32 has 320."""
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(image)
    x = conv(x, "stem", 32, largest=RELU6, strides=2)
    found, stride, number = {}, 2, 0
    for stage in STAGES:
        stride *= stage.stride
        for index in range(stage.blocks):
            x = _block(x, f"block_{number}", stage, stage.stride if index == 0 else 1)
            number += 1
        found[stride] = x
    return found


def _block(x: tf.Tensor, name: str, stage: Stage, stride: int) -> tf.Tensor:
    """An inverted residual block (arXiv 1801.04381, section 3.3): widen, filter, narrow."""
    channels = int(x.shape[-1])
    y = x
    if stage.expansion > 1:
        y = conv(y, f"{name}_expand", channels * stage.expansion, 1, largest=RELU6)
    y = layers.DepthwiseConv2D(
        stage.kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(y)
    y = layers.ReLU(RELU6)(norm(y, f"{name}_depthwise"))
    y = layers.Conv2D(stage.channels, 1, use_bias=False, name=f"{name}_project")(y)
    y = norm(y, f"{name}_project")
    return layers.Add()([x, y]) if stride == 1 and channels == stage.channels else y


def _separable(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
    """Depthwise 3x3, then 1x1, batch normalisation, ReLU6."""
    x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(
        x
    )
    return conv(x, name, WIDTH, 1, largest=RELU6)
