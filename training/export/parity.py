"""Whether an exported network gives what TensorFlow gives."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from training.errors import TrainingError
from training.network import model, onnx_network

TOLERANCE = 1e-4  # largest difference of any output between TensorFlow and another runtime


def check_parity(detector: model.Detector, session: Any, size: int, file: str) -> None:
    """Refuse an exported network whose outputs are others.

    Args:
        session: of the file, in ONNX Runtime or LiteRT.
        size: side of its input, pixels.
        file: what it is called.

    Raises:
        TrainingError: they differ by more than `TOLERANCE`.
    """
    difference = largest_difference(detector, session, size)
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"{file} and TensorFlow differ by {difference:g}, allowed is {TOLERANCE:g}: "
            "these versions of tensorflow and of its converter cannot export the network"
        )


def largest_difference(detector: model.Detector, session: Any, size: int) -> float:
    """Between Keras and a session over all outputs, at batch 1 and 3, on random images.

    Infinite where either gives a number that is not finite.
    """
    generator = np.random.default_rng(0)
    worst = 0.0
    for batch in (1, 3):
        images = generator.integers(0, 256, (batch, size, size, 3), np.uint8)
        wanted = detector(tf.constant(images))
        wanted_rows = np.concatenate([wanted["boxes"], wanted["scores"]], axis=-1)
        found_rows = np.concatenate(session.run(["boxes", "scores"], {"images": images}), axis=-1)
        if not (np.isfinite(wanted_rows).all() and np.isfinite(found_rows).all()):
            return math.inf
        worst = max(worst, onnx_network.difference(wanted_rows, found_rows, slack=TOLERANCE))
    return worst
