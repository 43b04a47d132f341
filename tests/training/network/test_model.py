import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.network import blocks, boxes, mixed_precision, model
from training.network.default_boxes import default_boxes
from training.network.presets import PRESETS, SSD_COMPACT, Preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_outputs_cover_all_default_boxes(preset: Preset) -> None:
    network = model.build_network(preset, 5)
    shapes = {name: tuple(x.shape) for name, x in network.output.items()}
    squares = {"ssd_compact_atss": 1940, "ssd_lite0": 2134, "ssd_mobilenet_v2": 2134}
    if boxes := squares.get(preset.name):
        assert shapes == {"offsets": (None, boxes, 4), "logits": (None, boxes, 5)}
    else:
        assert shapes == {"offsets": (None, 8732, 4), "logits": (None, 8732, 6)}


def test_vgg16_has_the_papers_size() -> None:
    """26.3 million for 20 classes: VGG-16 to conv5_3, fc6, fc7, extra layers, heads."""
    assert model.build_network(PRESETS["ssd300_vgg16"], 20).count_params() == pytest.approx(
        26.3e6, rel=0.01
    )


def test_untrained_network_says_background() -> None:
    network = model.build_network(SSD_COMPACT, 3)
    images = tf.random.stateless_uniform([2, 300, 300, 3], [0, 0], 0.0, 255.0)
    logits = network(images, training=True)["logits"]
    background = tf.nn.softmax(logits)[..., 0].numpy()
    assert np.median(background) == pytest.approx(model.BACKGROUND_PRIOR, abs=0.1)


def test_detector_decodes_and_keeps_the_best() -> None:
    network = model.build_network(SSD_COMPACT, 3)
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


def test_fused_batch_normalisation_is_keras_own() -> None:
    """Outputs, gradients and running statistics, over a batch so small that biases would show."""
    x = np.random.default_rng(1).normal(1.0, 3.0, (2, 2, 2, 5)).astype(np.float32)
    fused, plain = (
        kind(synchronized=True, momentum=0.9)
        for kind in (blocks.BatchNormalization, keras.layers.BatchNormalization)
    )
    for ours, theirs in zip(_normalise(fused, x), _normalise(plain, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_frozen_batch_normalisation_keeps_its_statistics() -> None:
    """Keras' rule: not trainable means the moving mean and variance, and no update of them."""
    x = np.random.default_rng(1).normal(1.0, 3.0, (2, 2, 2, 5)).astype(np.float32)
    frozen = blocks.BatchNormalization(synchronized=True)
    frozen.build(x.shape)
    frozen.trainable = False
    outputs = frozen(tf.constant(x), training=True)
    np.testing.assert_allclose(outputs, x / np.sqrt(1 + frozen.epsilon), rtol=1e-5)
    np.testing.assert_array_equal(frozen.moving_mean, np.zeros(5))
    np.testing.assert_array_equal(frozen.moving_variance, np.ones(5))


def _normalise(layer: keras.layers.Layer, x: np.ndarray) -> list[tf.Tensor]:
    layer.build(x.shape)
    images = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
        loss = tf.reduce_sum(outputs**3)
    variables = [v.value for v in layer.trainable_variables]
    gradients = tape.gradient(loss, [images, *variables])
    return [outputs, *gradients, *(v.value for v in layer.non_trainable_variables), layer(x)]


def test_maps_without_default_boxes_have_no_head() -> None:
    shapes = (((0.1, 0.1), (0.1, 0.2)), (), ((0.5, 0.5),), (), (), ())
    network = model.build_network(dataclasses.replace(SSD_COMPACT, box_shapes=shapes), 2)
    count = 38 * 38 * 2 + 10 * 10
    assert network.output["logits"].shape == (None, count, 3)
    assert not [layer.name for layer in network.layers if layer.name == "five"]
    assert len(default_boxes(dataclasses.replace(SSD_COMPACT, box_shapes=shapes))) == count


def test_head_without_batch_normalisation() -> None:
    def norms(head_norm: bool) -> set[str]:
        network = model.build_network(dataclasses.replace(SSD_COMPACT, head_norm=head_norm), 2)
        return {layer.name for layer in network.layers if layer.name.endswith("_norm")}

    heads = {"fine_head_norm", "middle_head_norm", "coarse_head_norm"}
    assert norms(True) - norms(False) == heads


def test_a_narrowed_network_is_the_same_but_for_its_widths() -> None:
    narrow = dataclasses.replace(SSD_COMPACT, widths=(("fine_1a", 32), ("middle_head", 48)))
    whole = model.build_network(SSD_COMPACT, 3)
    with mixed_precision.compute_in("bfloat16"):
        network = model.build_network(narrow, 3)
    names = [[x.name for x in net.layers if x.weights] for net in (network, whole)]
    assert names[0] == names[1]
    assert network.get_layer("fine_1a").kernel.shape == (3, 3, 64, 32)
    assert network.get_layer("fine_1b").kernel.shape == (3, 3, 32, 64)
    assert network.get_layer("fine_1b").compute_dtype == "bfloat16"
    assert network.get_layer("logits").compute_dtype == "float32"
    assert network.get_layer("fine_1a_norm").synchronized
    assert network.name == "ssd_compact"
    assert network.output["logits"].shape == (None, 8732, 4)
