"""The moving average of the weights, which evaluates better than the weights of any one step.

It is a second network of the same shape, so that whoever evaluates or restores it needs to know
nothing of averages. All weights are averaged, those of batch normalisation too: its running mean
and variance belong to the activations of the weights they were taken with.

Not Keras' `use_ema`: that leaves the running means and variances out, has no warm-up, and keeps the
average where only the optimizer can get at it.
"""

import keras
import tensorflow as tf

from training.network import model
from training.network.presets import Preset


def start_average(network: keras.Model, preset: Preset, classes: int) -> keras.Model:
    """A network that holds a copy of the weights; to be called in the strategy's scope."""
    average = model.build_network(preset, classes)
    for mean, weight in zip(average.weights, network.weights, strict=True):
        mean.assign(weight)
    return average


def decay_at(steps: tf.Tensor, largest: float) -> tf.Tensor:
    """The decay after so many steps: min(largest, (1 + t) / (10 + t)).

    Early weights are forgotten fast, and the average spans at most a ninth of the steps done: a
    run of 2,000 steps ends with 0.9955 (220 steps), only one of more than 9,000 reaches 0.999.
    """
    t = tf.cast(steps, tf.float32)
    return tf.minimum(largest, (1.0 + t) / (10.0 + t))


def move_average(
    strategy: tf.distribute.Strategy,
    average: keras.Model,
    network: keras.Model,
    largest: float,
    steps: tf.Tensor,
) -> None:
    """Move the average towards the weights, on each device by itself (no communication)."""
    rate = 1.0 - decay_at(steps, largest)
    for mean, weight in zip(average.weights, network.weights, strict=True):
        strategy.extended.update(mean.value, _move, args=(weight.value, rate))


def _move(mean: tf.Variable, weight: tf.Variable, rate: tf.Tensor) -> None:
    mean.assign_add(rate * (weight - mean))
