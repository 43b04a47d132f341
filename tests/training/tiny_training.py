"""`python -m training` with a network that trains in milliseconds, for tests that need processes.

The tests that need none take `backbone` from here.
"""

import os
import sys

import tensorflow as tf
from keras import layers

from training import model
from training.__main__ import main


def backbone(image: tf.Tensor) -> list[tf.Tensor]:
    """SSD300's six feature maps, of few channels."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = model._conv(layers.AveragePooling2D(8, padding="same")(x), 8)  # [B, 38, 38, 8]
    maps = [x]
    for _ in range(4):
        x = model._conv(x, 8, strides=2)  # 19, 10, 5, 3
        maps.append(x)
    return [*maps, model._conv(x, 8, padding="valid")]  # 1


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    model._compact = backbone
    sys.exit(main(sys.argv[1:]))
