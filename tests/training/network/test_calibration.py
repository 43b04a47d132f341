import numpy as np
import pytest
import tensorflow as tf

from training.network import model
from training.network.calibration import NONE, Calibration
from training.network.presets import PRESETS, SSD_COMPACT

SHARP = Calibration(0.4, 0.8)


def test_log_odds_are_divided_and_shifted() -> None:
    scores = np.linspace(0, 1, 1001)
    odds = np.log(scores[1:-1] / (1 - scores[1:-1]))
    found = SHARP.calibrate(scores)
    assert found[[0, -1]].tolist() == [0, 1]
    np.testing.assert_allclose(found[1:-1], 1 / (1 + np.exp(-(odds / 0.4 + 0.8))), atol=1e-12)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(NONE.calibrate(scores), scores, atol=1e-15)


@pytest.mark.parametrize("preset", [SSD_COMPACT, PRESETS["ssd_compact_atss"]], ids=lambda p: p.name)
def test_a_detector_gives_the_same_boxes_in_the_same_order(preset) -> None:
    """Of a softmax and of a sigmoid a class, whichever cut to the best comes before."""
    network = model.build_network(preset, 3)
    for weights in network.weights:  # else scores are nearly alike
        weights.assign(weights + tf.random.stateless_normal(weights.shape, [0, 1], stddev=0.05))
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8))
    plain = model.Detector(network, preset, 50)(images)
    found = model.Detector(network, preset, 50, SHARP)(images)
    scores = plain["scores"].numpy()
    assert scores.std() > 0.01
    np.testing.assert_array_equal(found["boxes"], plain["boxes"])
    np.testing.assert_allclose(found["scores"], SHARP.calibrate(scores), atol=1e-6)
    assert not np.isnan(found["scores"]).any()
