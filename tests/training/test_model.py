import numpy as np
import pytest
import tensorflow as tf

from training import boxes, model
from training.default_boxes import default_boxes
from training.presets import PRESETS, SSD_COMPACT, Preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_outputs_cover_all_default_boxes(preset: Preset) -> None:
    network = model.build(preset, 5)
    shapes = {name: tuple(x.shape) for name, x in network.output.items()}
    assert shapes == {"offsets": (None, 8732, 4), "logits": (None, 8732, 6)}


def test_vgg16_has_the_papers_size() -> None:
    """26.3 million for 20 classes: VGG-16 to conv5_3, fc6, fc7, extra layers, heads."""
    assert model.build(PRESETS["ssd300_vgg16"], 20).count_params() == pytest.approx(
        26.3e6, rel=0.01
    )


def test_untrained_network_says_background() -> None:
    network = model.build(SSD_COMPACT, 3)
    images = tf.random.stateless_uniform([2, 300, 300, 3], [0, 0], 0.0, 255.0)
    logits = network(images, training=True)["logits"]
    background = tf.nn.softmax(logits)[..., 0].numpy()
    assert np.median(background) == pytest.approx(model.BACKGROUND_PRIOR, abs=0.1)


def test_detector_decodes_and_keeps_the_best() -> None:
    network = model.build(SSD_COMPACT, 3)
    images = np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), np.uint8)
    found = model.Detector(network, SSD_COMPACT, keep=50)(tf.constant(images))
    outputs = network(images.astype(np.float32), training=False)
    scores = tf.nn.softmax(outputs["logits"]).numpy()[..., 1:]
    decoded = np.clip(boxes.decode(outputs["offsets"], default_boxes(SSD_COMPACT)), 0, 1)
    assert found["boxes"].shape == (2, 50, 4)
    for row in range(2):
        order = np.argsort(-scores[row].max(axis=1), kind="stable")[:50]
        np.testing.assert_allclose(found["scores"][row], scores[row][order], atol=1e-6)
        np.testing.assert_allclose(found["boxes"][row], decoded[row][order], atol=1e-6)
