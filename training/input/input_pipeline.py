"""TFRecords -> batches of images and targets, in an order fixed by the seed.

The stream is one endless sequence of examples: epoch after epoch, each in an order of its own,
every example with a seed of its own. Element `i` of the stream is a function of the seed and `i`
alone: the order of an epoch is a permutation that is computed, not a buffer that is filled, and
examples are read one by one from where they lie. So a resumed run goes on at any element at once,
N workers each take every N-th, and read and use each image once an epoch together, the same images
in a step as one worker would. And memory holds the examples in work only, however large photos are.

Photos are resized as in front of the served network: evaluation calls its very code; training does
the same to the window that augmentation cuts, see `reduction`.
"""

import os

import numpy as np
import tensorflow as tf

from training.data import decoding, records
from training.input import augmentation, random_access
from training.network import matching
from training.network.default_boxes import boxes_per_map, default_boxes
from training.network.presets import Preset, Resize

# Shorter side of a window in input sizes from which on a JPEG is decoded at 1/2, 1/4 and 1/8.
_REDUCED_FROM = (4.0, 5.0, 10.0)


def decode_image(encoded: tf.Tensor, reduced: tf.Tensor | int = 1) -> tf.Tensor:
    """JPEG, PNG or BMP bytes -> uint8 [H, W, 3], a JPEG's sides divided by 1, 2, 4 or 8.

    The accurate DCT, because OpenCV, which decodes in front of the served network, uses it too.
    """

    def decode_jpeg(ratio: int) -> tf.Tensor:
        return tf.io.decode_jpeg(encoded, 3, ratio, dct_method="INTEGER_ACCURATE")

    if tf.io.is_jpeg(encoded):
        cases = [(tf.equal(reduced, k), lambda k=k: decode_jpeg(k)) for k in (2, 4, 8)]
        return tf.case(cases, lambda: decode_jpeg(1))
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def reduction(encoded: tf.Tensor, extent: tf.Tensor, size: int) -> tf.Tensor:
    """By how much an image's sides are divided as it is decoded: float32, 1, 2, 4 or 8.

    As in front of the served network (`choose_reduction` of model_repository/preprocess) for a
    photo of this width and height in pixels [2]: the format's own averaging of blocks of pixels,
    before what is left is resized bilinearly.
    """
    passed = tf.reduce_min(extent) / size >= tf.constant(_REDUCED_FROM)
    reduced = 2.0 ** tf.reduce_sum(tf.cast(passed, tf.float32))
    return tf.where(tf.io.is_jpeg(encoded), reduced, 1.0)


def prepare_evaluation_example(
    example: dict[str, tf.Tensor], size: int, resize: Resize = "stretch"
) -> dict[str, tf.Tensor]:
    """As the served preprocessing makes it, uint8 [size, size, 3]."""

    def served(encoded: bytes | np.ndarray) -> np.ndarray:  # an array where called eagerly
        return decoding.served(np.asarray(encoded, object).item(), size, resize)

    image = tf.numpy_function(served, [example["encoded"]], tf.uint8)
    return {
        "images": tf.ensure_shape(image, [size, size, 3]),
        "image_id": example["image_id"],
    }


def prepare_training_example(
    example: dict[str, tf.Tensor], seed: tf.Tensor, preset: Preset, vertical_flip: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """One augmented example.

    Args:
        example: as `records.parse` gives it.
        seed: int32 [2].
        preset: how far to zoom and crop, and the input size S.
        vertical_flip: also mirror top and bottom, for images without an up and down.

    Returns:
        image: float32 [S, S, 3], 0..255.
        boxes_xyxy: float32 [N, 4], 0..1.
        classes: int32 [N].
        difficult: bool [N].
    """
    keys = tf.unstack(tf.random.split(seed, 4))
    window = choose_window(example, keys[0], keys[1], preset)
    image = show_window(example, window, keys[2], preset)
    boxes_xyxy, keep = augmentation.move_boxes(example["boxes_xyxy"], window)
    boxes_xyxy = tf.boolean_mask(boxes_xyxy, keep)
    image, boxes_xyxy = augmentation.flip(image, boxes_xyxy, keys[3], vertical_flip)
    image = tf.ensure_shape(image, [preset.input_size, preset.input_size, 3])
    return (
        image,
        boxes_xyxy,
        tf.boolean_mask(example["classes"], keep),
        tf.boolean_mask(example["difficult"], keep),
    )


def choose_window(
    example: dict[str, tf.Tensor], zoom_seed: tf.Tensor, crop_seed: tf.Tensor, preset: Preset
) -> tf.Tensor:
    """What of an example's image is cut out: xyxy [4], 0..1 is the whole image."""
    outer = augmentation.zoom_out_window(zoom_seed, preset.zoom_out)
    # The crop is taken from the zoomed-out canvas, hence its boxes and then its coordinates.
    on_canvas, _ = augmentation.move_boxes(example["boxes_xyxy"], outer)
    inner = augmentation.crop_window(on_canvas, crop_seed, preset.smallest_crop)
    origin, extent = tf.tile(outer[:2], [2]), tf.tile(outer[2:] - outer[:2], [2])
    window = origin + inner * extent
    if preset.resize == "letterbox":
        return augmentation.letterbox_window(window, _extent(example))
    return window


def show_window(
    example: dict[str, tf.Tensor], window: tf.Tensor, seed: tf.Tensor, preset: Preset
) -> tf.Tensor:
    """The window as the network sees it, its colours distorted: float32 [S, S, 3]."""
    is_letterboxed = preset.resize == "letterbox"
    outside = augmentation.OUTSIDE if is_letterboxed else None
    patch = cut_window(example, window, preset.input_size, outside)
    image = augmentation.photometric(patch, seed) if preset.photometric else patch
    if is_letterboxed:  # the same grey as in front of the served network, whatever the light
        image = tf.where(patch == augmentation.OUTSIDE, float(decoding.PADDING), image)
    return image


def cut_window(
    example: dict[str, tf.Tensor], window: tf.Tensor, size: int, outside: float | None = None
) -> tf.Tensor:
    """The window of an example's image, resized: float32 [size, size, 3]; as `augmentation.cut`."""
    extent = _extent(example)
    reduced = reduction(example["encoded"], (window[2:] - window[:2]) * extent, size)
    image = decode_image(example["encoded"], reduced)
    return augmentation.cut(image, window, size, extent / reduced, outside)


def _extent(example: dict[str, tf.Tensor]) -> tf.Tensor:
    """Width and height in pixels, float32 [2]."""
    return tf.cast(tf.stack([example["width"], example["height"]]), tf.float32)


def stream(
    manifest: records.Manifest,
    seed: int,
    skip: int = 0,
    shard: tuple[int, int] = (0, 1),
    repeats: np.ndarray | None = None,
) -> tf.data.Dataset:
    """The endless sequence of (seed int32 [2], serialised example), without its first `skip`.

    Of what is left the elements of one shard (index, count): every count-th.

    repeats: how often each image comes beside the others, float64 [N]; None: all come alike. An
        epoch is as long as ever, and what an image's share of it leaves over varies by epoch.
    """
    places = random_access.find_examples(manifest)
    ends = None if repeats is None else np.cumsum(repeats) * (manifest.count / repeats.sum())

    def element(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch, place = number // manifest.count, number % manifest.count
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        row = tf.random.experimental.index_shuffle(
            place, key, tf.constant(manifest.count - 1, tf.int64)
        )
        if ends is not None:
            row = _choose_repeated(row, ends, key)
        return _example_seed(seed, epoch, place), random_access.read_example(places, row)

    numbers = tf.data.Dataset.range(skip, 2**62).shard(shard[1], shard[0])
    return numbers.map(element, num_parallel_calls=os.cpu_count() or 1)


def _choose_repeated(place: tf.Tensor, ends: np.ndarray, key: tf.Tensor) -> tf.Tensor:
    """The image at a place of an epoch, where each takes up so much of it: systematic sampling.

    ends: where along the epoch each image's part ends, float64 [N].
    key: int64 [2], the epoch's.
    """
    shift = tf.random.stateless_uniform([], key, dtype=tf.float64)
    at = tf.cast(place, tf.float64) + shift
    row = tf.searchsorted(ends, at[None], side="right", out_type=tf.int64)[0]
    return tf.minimum(row, len(ends) - 1)  # the last end is the epoch's but for rounding


def _example_seed(seed: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int32), tf.cast(epoch * 1_000_003 + index, tf.int32)])


def training_batches(
    manifest: records.Manifest,
    preset: Preset,
    *,
    batch_size: int,
    seed: int,
    vertical_flip: bool,
    skip: int = 0,
    shard: tuple[int, int] = (0, 1),
    repeats: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches (images, offsets, targets, image_id), endless.

    images: float32 [B, S, S, 3], 0..255.
    offsets, targets: float32 [B, A, 4], int32 [B, A], as `matching` gives them.
    image_id: string [B].

    Args:
        batch_size: images a batch of *this* pipeline, that is per replica.
        skip: elements of the global stream that an earlier run has used up.
        shard: (index, count) of this pipeline among those that share the stream.
        repeats: as of `stream`.
    """
    default_cxcywh = tf.constant(default_boxes(preset))

    def prepare(key: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        example = records.parse(serialized)
        image, boxes_xyxy, classes, difficult = prepare_training_example(
            example, key, preset, vertical_flip
        )
        objects = (boxes_xyxy, classes, difficult, default_cxcywh)
        if preset.matching == "adaptive":
            targets = matching.match_adaptively(*objects, boxes_per_map(preset))
        else:
            targets = matching.match_boxes(*objects, preset.matching_iou)
        return image, *targets, example["image_id"]

    examples = stream(manifest, seed, skip, shard, repeats).map(
        prepare, num_parallel_calls=os.cpu_count() or 1
    )
    batches = examples.batch(batch_size, drop_remainder=True).prefetch(2)
    # Not AUTOTUNE: its thread does not end when the iterator of a MirroredStrategy does, and
    # whoever deletes that iterator waits for it forever (seen with TensorFlow 2.21).
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
