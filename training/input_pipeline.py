"""TFRecords -> batches of images and targets, in an order fixed by the seed.

The stream is one endless sequence of examples: epoch after epoch, each in an order of its own,
every example with a seed of its own. Element `i` of the stream is the same whenever and wherever
it is made, so a resumed run skips to where it stopped, and N workers each take every N-th: together
they use each image once an epoch, and the same images in a step as one worker would.

For that each worker reads all files, but parses, decodes and augments its own part only. Dealing
out whole files would spare it the reading, and cost the order that does not depend on how many
workers there are, and epochs that end for all of them at once.
"""

import os

import tensorflow as tf

from training import augmentation, matching, records
from training.default_boxes import default_boxes
from training.presets import Preset

_SHUFFLE_BUFFER = 4096  # serialised examples, each the size of a JPEG


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG or BMP bytes -> uint8 [H, W, 3].

    The accurate DCT, because OpenCV, which decodes in front of the served network, uses it too.
    """
    if tf.io.is_jpeg(encoded):
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def prepare_evaluation_example(example: dict[str, tf.Tensor], size: int) -> dict[str, tf.Tensor]:
    """As the served preprocessing: stretched to the input size, uint8 [size, size, 3]."""
    image = tf.image.resize(decode_image(example["encoded"]), [size, size], method="bilinear")
    image = tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
    return {"images": image, "image_id": example["image_id"]}


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
    boxes_xyxy = example["boxes_xyxy"]
    outer = augmentation.zoom_out_window(keys[0], preset.zoom_out)
    # The crop is taken from the zoomed-out canvas, hence its boxes and then its coordinates.
    on_canvas, _ = augmentation.move_boxes(boxes_xyxy, outer)
    inner = augmentation.crop_window(on_canvas, keys[1], preset.smallest_crop)
    origin, extent = tf.tile(outer[:2], [2]), tf.tile(outer[2:] - outer[:2], [2])
    window = origin + inner * extent
    image = augmentation.cut(decode_image(example["encoded"]), window, preset.input_size)
    boxes_xyxy, keep = augmentation.move_boxes(boxes_xyxy, window)
    boxes_xyxy = tf.boolean_mask(boxes_xyxy, keep)
    if preset.photometric:
        image = augmentation.photometric(image, keys[2])
    image, boxes_xyxy = augmentation.flip(image, boxes_xyxy, keys[3], vertical_flip)
    image = tf.ensure_shape(image, [preset.input_size, preset.input_size, 3])
    return (
        image,
        boxes_xyxy,
        tf.boolean_mask(example["classes"], keep),
        tf.boolean_mask(example["difficult"], keep),
    )


def stream(manifest: records.Manifest, seed: int, skip: int = 0) -> tf.data.Dataset:
    """The endless sequence of (seed int32 [2], serialised example), without its first `skip`."""

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = number + tf.constant(seed, tf.int64) * 1_000_003
        # The files too, for a split that is larger than the buffer.
        files = tf.data.Dataset.from_tensor_slices(manifest.paths)
        files = files.shuffle(len(manifest.paths), seed=key, reshuffle_each_iteration=False)
        examples = tf.data.TFRecordDataset(files)
        order = examples.shuffle(_SHUFFLE_BUFFER, seed=key, reshuffle_each_iteration=False)
        return order.enumerate().map(lambda i, x: (_example_seed(seed, number, i), x))

    epochs_done, examples_done = divmod(skip, manifest.count)
    return tf.data.Dataset.range(epochs_done, 2**31 - 1).flat_map(epoch).skip(examples_done)


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
) -> tf.data.Dataset:
    """Batches (images, offsets, targets, image_id), endless.

    images: float32 [B, S, S, 3], 0..255.
    offsets, targets: float32 [B, A, 4], int32 [B, A], as `matching.match` gives them.
    image_id: string [B].

    Args:
        batch_size: images a batch of *this* pipeline, that is per replica.
        skip: elements of the global stream that an earlier run has used up.
        shard: (index, count) of this pipeline among those that share the stream.
    """
    default_cxcywh = tf.constant(default_boxes(preset))

    def prepare(key: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        example = records.parse(serialized)
        image, boxes_xyxy, classes, difficult = prepare_training_example(
            example, key, preset, vertical_flip
        )
        targets = matching.match(
            boxes_xyxy, classes, difficult, default_cxcywh, preset.matching_iou
        )
        return image, *targets, example["image_id"]

    examples = stream(manifest, seed, skip).shard(shard[1], shard[0])
    examples = examples.map(prepare, num_parallel_calls=os.cpu_count() or 1)
    batches = examples.batch(batch_size, drop_remainder=True).prefetch(2)
    # Not AUTOTUNE: its thread does not end when the iterator of a MirroredStrategy does, and
    # whoever deletes that iterator waits for it forever (seen with TensorFlow 2.21).
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
