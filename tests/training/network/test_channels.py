import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
import pytest
from keras import layers

from training.network import channels, model
from training.network.channels import Channels
from training.network.presets import PRESETS, SSD300_VGG16, SSD_COMPACT, SSD_LITE0, Preset


def test_layers_that_are_added_are_one_group() -> None:
    traced = channels.trace_channels(model.build_network(SSD_COMPACT, 3))
    members = {k: v.output for k, v in traced.ends.items() if k in traced.costs}
    assert members["fine_down"] == members["fine_1b"] == members["fine_2b"] == "fine_down"
    assert members["middle_from_above"] == members["middle_lateral"]
    assert members["fine_1a"] == "fine_1a"
    assert traced.ends["fine_1b_norm"] == channels.Ends("fine_down", "fine_down")
    assert traced.widths["fine_down"] == 64


def test_the_image_and_the_predictors_keep_their_channels() -> None:
    traced = channels.trace_channels(model.build_network(SSD_COMPACT, 3))
    assert traced.ends["stem_1"] == channels.Ends(None, "stem_1")
    assert traced.ends["logits_0"] == channels.Ends("fine_head", None)
    assert not [group for group in traced.widths if group.startswith(("logits", "offsets"))]


def test_a_map_that_several_layers_read() -> None:
    """VGG-16's conv4_3: its norm's predictors read it, and conv5_1 through pooling."""
    traced = channels.trace_channels(model.build_network(PRESETS["ssd300_vgg16"], 3))
    readers = {k for k, v in traced.ends.items() if k in traced.costs and v.input == "conv4_3"}
    assert readers == {"conv5_1", "offsets_0", "logits_0"}


def test_a_depthwise_convolution_has_the_channels_of_what_it_reads() -> None:
    traced = channels.trace_channels(model.build_network(SSD_LITE0, 3))
    assert traced.ends["block_1_depthwise"] == channels.Ends("block_1_expand", None)
    assert traced.ends["block_1_depthwise_norm"].output == "block_1_expand"
    assert traced.ends["block_1_project"].input == "block_1_expand"
    less = traced.multiply_adds({}) - traced.multiply_adds({"block_1_expand": 80})  # of 96
    assert less == 16 * (160 * 160 * 16 + 80 * 80 * 9 + 80 * 80 * 24)


def test_multiply_adds() -> None:
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same", name="a")(image)
    x = layers.Conv2D(16, 1, strides=2, name="b")(x)
    traced = channels.trace_channels(keras.Model(image, layers.Flatten()(x)))
    assert traced.widths == {"a": 32}  # the channels of b end up in one vector
    assert traced.multiply_adds({}) == 64 * 9 * 3 * 32 + 16 * 32 * 16
    assert traced.multiply_adds({"a": 16}) == traced.multiply_adds({}) // 2


@pytest.mark.parametrize(
    "preset", [SSD_COMPACT, SSD_LITE0, SSD300_VGG16], ids=lambda preset: preset.name
)
def test_without_dead_channels_the_outputs_are_the_same(preset: Preset) -> None:
    """A quarter of each group's channels is made 0, then left out."""
    preset = dataclasses.replace(preset, box_shapes=(((0.1, 0.1),),) * len(preset.feature_maps))
    whole = model.build_network(preset, 2)
    traced = channels.trace_channels(whole)
    rng = np.random.default_rng(0)
    kept = {k: np.sort(rng.permutation(n)[: n * 3 // 4]) for k, n in traced.widths.items()}
    _silence(whole, traced, kept)
    widths = {k: len(v) for k, v in kept.items()}
    narrow = model.build_network(dataclasses.replace(preset, widths=traced.of_layers(widths)), 2)
    channels.take_over(narrow, whole, traced, kept)
    images = rng.uniform(0, 255, (1, preset.input_size, preset.input_size, 3)).astype(np.float32)
    for name, outputs in whole(images).items():
        np.testing.assert_allclose(narrow(images)[name], outputs, rtol=1e-3, atol=1e-4)
    assert narrow.count_params() < 0.6 * whole.count_params()
    assert channels.trace_channels(narrow).multiply_adds({}) == traced.multiply_adds(widths)


def _silence(network: keras.Model, traced: Channels, kept: Mapping[str, np.ndarray]) -> None:
    """Makes the channels that are not kept 0; the others' normalisation anything but neutral."""
    rng = np.random.default_rng(1)
    for layer in network.layers:
        group = traced.ends[layer.name].output
        if layer.weights and group:
            dead = np.setdiff1d(np.arange(traced.widths[group]), kept[group])
            weights = layer.get_weights()
            if isinstance(layer, layers.BatchNormalization):
                weights = [rng.uniform(0.5, 1.5, x.shape) for x in weights]
            for weight in weights[:2]:
                weight[..., dead] = 0.0  # kernel and bias, or gamma and beta
            layer.set_weights(weights)
