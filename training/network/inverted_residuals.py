"""Backbones of inverted residual blocks: EfficientNet-Lite0 and MobileNetV2.

The first is EfficientNet-B0 (arXiv 1905.11946, table 1) without squeeze-and-excitation and with
ReLU6 in place of swish, which 8 bits take well; stem and first block are not scaled
(github.com/tensorflow/tpu, models/official/efficientnet/lite). The second is the network of
arXiv 1801.04381, table 2. Both without the 1x1 convolution before the classifier.

Their layers are called `stem`, `block_0_depthwise`, `block_0_project`, `block_1_expand` and so on,
their batch normalisations `..._norm`; by these names pretrained weights find them.
"""

from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import layers

from training.network.blocks import conv, norm

RELU6 = 6.0


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them changes the resolution."""

    blocks: int
    kernel: int
    stride: int
    expansion: int  # channels inside a block, in terms of those that enter it
    channels: int


STAGES = {
    "ssd_lite0": (
        Stage(1, 3, 1, 1, 16),  # stride 2 of the image
        Stage(2, 3, 2, 6, 24),  # 4
        Stage(2, 5, 2, 6, 40),  # 8
        Stage(3, 3, 2, 6, 80),  # 16
        Stage(3, 5, 1, 6, 112),
        Stage(4, 5, 2, 6, 192),  # 32
        Stage(1, 3, 1, 6, 320),
    ),
    "ssd_mobilenet_v2": (
        Stage(1, 3, 1, 1, 16),  # stride 2 of the image
        Stage(2, 3, 2, 6, 24),  # 4
        Stage(3, 3, 2, 6, 32),  # 8
        Stage(4, 3, 2, 6, 64),  # 16
        Stage(3, 3, 1, 6, 96),
        Stage(3, 3, 2, 6, 160),  # 32
        Stage(1, 3, 1, 6, 320),
    ),
}
STRIDES = (2, 4, 8, 16, 32)  # of the maps that a backbone ends a resolution with


def build_backbone(image: tf.Tensor, name: str) -> dict[int, tf.Tensor]:
    """The last map of each stride of a preset's backbone, from the normalised image."""
    x = conv(image, "stem", 32, largest=RELU6, strides=2)
    found, stride, number = {}, 2, 0
    for stage in STAGES[name]:
        stride *= stage.stride
        for index in range(stage.blocks):
            x = _block(x, f"block_{number}", stage, stage.stride if index == 0 else 1)
            number += 1
        found[stride] = x
    return found


def backbone_layers(network: keras.Model, stride: int = 32) -> list[layers.Layer]:
    """The backbone's layers with weights, from the image to the last map of a stride (2 to 32)."""
    reached, last = 2, 0
    for stage in STAGES[network.name]:
        reached *= stage.stride
        last += stage.blocks if reached <= stride else 0
    names = ("stem", *(f"block_{number}_" for number in range(last)))
    return [x for x in network.layers if x.weights and x.name.startswith(names)]


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
