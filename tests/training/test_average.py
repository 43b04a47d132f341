import keras
import numpy as np
import pytest
import tensorflow as tf

from training import average


def _network(weights: list[float]) -> keras.Model:
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.set_weights([np.full([1, 1], weights[0]), np.full([1], weights[1])])
    return network


def test_the_decay_grows_to_the_one_wanted() -> None:
    steps = (0, 1, 10, 1990, 10**6)
    decays = [float(average.decay_at(tf.constant(t), 0.999)) for t in steps]
    assert decays == pytest.approx([0.1, 2 / 11, 0.55, 0.9955, 0.999])


@pytest.mark.parametrize("devices", [1, 2])
def test_the_average_moves_towards_the_weights_on_every_device(
    devices: int, two_replicas: tf.distribute.Strategy
) -> None:
    strategy = two_replicas if devices > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        mean, network = _network([0.0, 4.0]), _network([1.0, 2.0])
    for steps in (0, 1):
        tf.function(average.move_average)(strategy, mean, network, 0.999, tf.constant(steps))
    kept = 0.1 * 2 / 11
    for weight, wanted in zip(mean.weights, (1.0 - kept, 2.0 + 2.0 * kept), strict=True):
        for value in strategy.experimental_local_results(weight.value):
            np.testing.assert_allclose(value.numpy().ravel(), wanted, rtol=1e-6)
