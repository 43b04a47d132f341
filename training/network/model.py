"""The networks: image in, offsets and class logits for every default box out.

Input: RGB, [B, S, S, 3], 0..255, any number type. Normalising is the first layer, so that whoever
feeds the network, here or in a server, hands over plain pixels.
Outputs: `offsets` float32 [B, A, 4], and `logits`: float32 [B, A, 1 + C] for a softmax, background
first, or [B, A, C] for a sigmoid a class, as the preset's class loss wants it.
"""

import math

import keras
import tensorflow as tf
from keras import layers

from training.network import boxes
from training.network.blocks import add_from_above, conv
from training.network.calibration import NONE, Calibration
from training.network.default_boxes import boxes_per_cell, default_boxes
from training.network.presets import Preset
from training.network.pyramid import lite0, mobilenet_v2

KEEP = 400  # boxes that leave the network for NMS, unless an export says otherwise

# A rare-object prior as in focal loss (arXiv 1708.02002, section 4.1) keeps the first steps calm:
# background starts at this probability, the rest is shared by the classes.
BACKGROUND_PRIOR = 0.9
OBJECT_PRIOR = 0.01  # the same for a sigmoid a class


def build_network(preset: Preset, classes: int) -> keras.Model:
    """The trainable network of a preset for `classes` object classes, randomly initialised."""
    backbone = {
        "ssd_lite0": lite0,
        "ssd_mobilenet_v2": mobilenet_v2,
        "ssd_compact": compact,
        "ssd_compact_atss": compact,
        "ssd300_vgg16": _vgg16,
    }[preset.name]
    image = keras.Input((preset.input_size, preset.input_size, 3), name="images")
    maps = backbone(image, preset)
    sides = tuple(int(x.shape[1]) for x in maps)
    if sides != preset.feature_maps:
        raise ValueError(f"{preset.name}: feature maps must be {preset.feature_maps}, got {sides}")
    offsets, logits = _head(maps, boxes_per_cell(preset), classes, preset.has_background)
    network = keras.Model(image, {"offsets": offsets, "logits": logits}, name=preset.name)
    return _narrowed(network, dict(preset.widths)) if preset.widths else network


def _narrowed(network: keras.Model, widths: dict[str, int]) -> keras.Model:
    """The same network with fewer channels in the convolutions that `widths` names."""

    def copy(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        if layer.name in widths:
            config["filters"] = widths[layer.name]
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=copy)


class Detector(keras.Model):
    """The network with scores, box decoding and the best-K cut behind it: what is exported.

    calibration: what the scores are put through last.
    Call with images uint8 [B, S, S, 3]; gives `boxes` float32 [B, K, 4], xyxy, 0..1, clipped, and
    `scores` float32 [B, K, C] without background, ordered by each box's best score. No NMS.
    """

    def __init__(
        self,
        network: keras.Model,
        preset: Preset,
        keep: int = KEEP,
        calibration: Calibration = NONE,
    ) -> None:
        super().__init__(name="detector")
        self.network = network
        self.default_boxes = default_boxes(preset)  # not a tensor: constants stay in the graph
        self.has_background = preset.has_background
        self.keep = min(keep, len(self.default_boxes))
        self.calibration = calibration

    def call(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = self.network(tf.cast(images, tf.float32), training=False)
        logits = outputs["logits"]
        scores = tf.nn.softmax(logits)[..., 1:] if self.has_background else tf.sigmoid(logits)
        best = tf.math.top_k(tf.reduce_max(scores, axis=-1), self.keep).indices  # [B, K]
        offsets = tf.gather(outputs["offsets"], best, batch_dims=1)
        decoded = boxes.decode(offsets, tf.gather(self.default_boxes, best))
        kept = tf.gather(scores, best, batch_dims=1)
        if self.calibration != NONE:
            # A softmax may exceed 1 by rounding, and a root of what is below 0 is no number.
            kept = self.calibration.calibrate(tf.clip_by_value(kept, 0.0, 1.0))
        return {"boxes": tf.clip_by_value(decoded, 0.0, 1.0), "scores": kept}


def _head(
    maps: list[tf.Tensor], per_cell: tuple[int, ...], classes: int, has_background: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Predictors on each map that has default boxes (SSD, section 2.1), concatenated.

    They are 3x3, or 1x1 where scores have no background: those maps were made for them.
    """
    kernel, bias = (3, _class_bias(classes)) if has_background else (1, _object_bias(classes))
    offsets, logits = [], []
    for index, (x, count) in enumerate(zip(maps, per_cell, strict=True)):
        if not count:
            continue
        box = layers.Conv2D(count * 4, kernel, padding="same", name=f"offsets_{index}")(x)
        score = layers.Conv2D(
            count * len(bias),
            kernel,
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(bias * count),
            name=f"logits_{index}",
        )(x)
        offsets.append(layers.Reshape((-1, 4))(box))
        logits.append(layers.Reshape((-1, len(bias)))(score))
    # float32 whatever the precision: the loss's exponentials and the boxes need it.
    return (
        layers.Concatenate(axis=1, name="offsets", dtype="float32")(offsets),
        layers.Concatenate(axis=1, name="logits", dtype="float32")(logits),
    )


def _object_bias(classes: int) -> list[float]:
    return [math.log(OBJECT_PRIOR / (1.0 - OBJECT_PRIOR))] * classes


def _class_bias(classes: int) -> list[float]:
    background = math.log(BACKGROUND_PRIOR * classes / (1.0 - BACKGROUND_PRIOR))
    return [background] + [0.0] * classes


def _stage(x: tf.Tensor, name: str, filters: int, blocks: int) -> tf.Tensor:
    """Half the resolution, then residual blocks of two convolutions."""
    x = conv(x, f"{name}_down", filters, strides=2)
    for block in range(1, blocks + 1):
        y = conv(conv(x, f"{name}_{block}a", filters), f"{name}_{block}b", filters)
        x = layers.Add()([x, y])
    return x


def compact(image: tf.Tensor, preset: Preset) -> list[tf.Tensor]:
    """A residual network of plain 3x3 convolutions with a top-down path over its three finest maps.

    Plain convolutions, because depthwise ones train slowly on a CPU, and none but the downsampling
    ones above 38x38, where they cost most. The top-down path (Feature Pyramid Networks,
    arXiv 1612.03144, section 3) gives the finest map, which finds the smallest objects, the context
    of the coarse ones. The head has batch normalisation too, without which training from scratch
    suffers (ScratchDet, arXiv 1810.08425, section 3.2).
    """
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = conv(conv(x, "stem_1", 16, strides=2), "stem_2", 32, strides=2)  # [B, 75, 75, 32]
    fine = _stage(x, "fine", 64, 2)  # [B, 38, 38, 64]
    middle = _stage(fine, "middle", 128, 2)  # [B, 19, 19, 128]
    coarse = _stage(middle, "coarse", 192, 1)  # [B, 10, 10, 192]
    five = conv(coarse, "five", 192, strides=2)  # [B, 5, 5, 192]
    three = conv(conv(five, "three_squeeze", 96, 1), "three", 192, strides=2)  # [B, 3, 3, 192]
    one = conv(conv(three, "one_squeeze", 96, 1), "one", 192, padding="valid")  # [B, 1, 1, 192]
    middle = _merge(middle, coarse, "middle", 64)
    fine = _merge(fine, middle, "fine", 64)
    merged = {"fine": fine, "middle": middle, "coarse": coarse}
    heads = [conv(x, f"{k}_head", 64, is_normed=preset.head_norm) for k, x in merged.items()]
    return [*heads, five, three, one]


def _merge(fine: tf.Tensor, coarse: tf.Tensor, name: str, filters: int) -> tf.Tensor:
    from_above = conv(coarse, f"{name}_from_above", filters, 1)
    return add_from_above(conv(fine, f"{name}_lateral", filters, 1), from_above)


class L2Normalization(layers.Layer):
    """ParseNet's scaled L2 normalisation over channels (arXiv 1506.04579), initial scale 20."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(20.0), name="scale"
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        # In float32 also under mixed precision: in float16 the square of 256 is infinite.
        wide = tf.cast(x, tf.float32)
        squares = tf.reduce_sum(wide**2, axis=-1, keepdims=True)
        # Where no channel fires, 0 with a gradient of 0, not of 1 / epsilon.
        squares = tf.where(squares > 0.0, squares, math.inf)
        return tf.cast(wide * tf.math.rsqrt(squares), x.dtype) * self.scale


def _plain(x: tf.Tensor, name: str, filters: int, kernel: int = 3, **options: object) -> tf.Tensor:
    """Convolution and ReLU, "xavier" initialised (SSD, section 3.1): Keras' glorot_uniform."""
    options = {"padding": "same", "activation": "relu", "name": name} | options
    return layers.Conv2D(filters, kernel, **options)(x)


def _vgg16(image: tf.Tensor, _preset: Preset) -> list[tf.Tensor]:
    """SSD300's VGG-16 (section 3 "Base network", figure 2): dilated fc6, extra layers to 1x1.

    Layers have the paper's names, by which `imagenet.load_imagenet` finds them.
    """
    # The mean of ImageNet in BGR, as the published VGG-16 weights expect.
    x = layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68])(image[..., ::-1])
    for block, (filters, depth) in enumerate(((64, 2), (128, 2), (256, 3)), start=1):
        for index in range(1, depth + 1):
            x = _plain(x, f"conv{block}_{index}", filters)
        x = layers.MaxPooling2D(2, padding="same")(x)  # "same" keeps 75 -> 38
    for index in (1, 2, 3):
        x = _plain(x, f"conv4_{index}", 512)
    maps = [L2Normalization(name="conv4_3_norm")(x)]  # [B, 38, 38, 512]
    x = layers.MaxPooling2D(2)(x)
    for index in (1, 2, 3):
        x = _plain(x, f"conv5_{index}", 512)
    x = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    x = _plain(x, "fc6", 1024, dilation_rate=6)
    x = _plain(x, "fc7", 1024, 1)
    maps.append(x)  # [B, 19, 19, 1024]
    for block, squeeze, filters, stride in (
        (8, 256, 512, 2),  # [B, 10, 10, 512]
        (9, 128, 256, 2),  # [B, 5, 5, 256]
        (10, 128, 256, 1),  # [B, 3, 3, 256]
        (11, 128, 256, 1),  # [B, 1, 1, 256]
    ):
        x = _plain(x, f"conv{block}_1", squeeze, 1)
        if stride == 2:
            # One pixel on every side, as in the authors' Caffe code: TensorFlow's "same" pads an
            # even side only behind, which would shift the 5x5 map by a cell of the 10x10 one.
            x = layers.ZeroPadding2D(1)(x)
        x = _plain(x, f"conv{block}_2", filters, strides=stride, padding="valid")
        maps.append(x)
    return maps
