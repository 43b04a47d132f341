"""SSD's augmentation (section 2.2 "Data augmentation", section 3.6 zoom-out), as pure functions.

Every function takes a `seed` int32 [2] and gives the same result for the same seed, so that a
resumed run sees what the interrupted one would have seen.

The geometric part is one window: a rectangle in normalised coordinates that may be smaller than
the image (a crop) or larger (zoom-out). It is cut out and resized in one operation; nothing the
size of a zoomed-out canvas is ever made. For a network that sees letterboxed photos the window is
made a square of pixels, so that objects keep their shape; where it leaves the photo it is grey.
"""

import math

import numpy as np
import tensorflow as tf

from training.network import boxes

# "None" is one of the paper's options: the whole image. 0 stands for a crop of any overlap.
_MIN_IOUS = (-1.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
OUTSIDE = -1.0  # marks samples outside the image, for no pixel has this value
_CANDIDATES = 50  # tries for a crop that satisfies the overlap, as in the authors' code


def _split(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    return tf.unstack(tf.random.split(seed, count))


def _uniform(seed: tf.Tensor, low: float, high: float, shape: tuple[int, ...] = ()) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, low, high)


def _coin(seed: tf.Tensor) -> tf.Tensor:
    return _uniform(seed, 0.0, 1.0) < 0.5


def photometric(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Brightness, contrast, saturation and hue, each half of the time; float32 [H, W, 3], 0..255.

    Contrast comes before or after the two colour changes, as in the authors' code. All of them are
    linear in a pixel's colour, so they are one matrix, and each pixel is touched once: a fifth of
    the time of `tf.image`'s functions one after the other.
    """
    keys = _split(seed, 9)
    brightness = tf.where(_coin(keys[0]), _uniform(keys[1], -32.0, 32.0), 0.0)
    contrast = tf.where(_coin(keys[3]), _uniform(keys[4], 0.5, 1.5), 1.0)
    saturation = tf.where(_coin(keys[5]), _uniform(keys[6], 0.5, 1.5), 1.0)
    hue = tf.where(_coin(keys[7]), _uniform(keys[8], -18.0, 18.0), 0.0)  # degrees
    matrix = contrast * colour_matrix(saturation, hue)
    shift = brightness * tf.where(_coin(keys[2]), 1.0, contrast)  # contrast before it, or after
    return tf.clip_by_value(tf.matmul(image, matrix, transpose_b=True) + shift, 0.0, 255.0)


def colour_matrix(saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """The matrix [3, 3] on RGB columns that scales saturation and turns hue, in degrees.

    In YIQ (NTSC) both act on the plane of I and Q alone: a factor and a rotation.
    """
    angle = hue * (-math.pi / 180.0)  # YIQ's plane turns the other way round than HSV's wheel
    cos, sin = saturation * tf.cos(angle), saturation * tf.sin(angle)
    turn = tf.stack([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    return tf.constant(_FROM_YIQ, tf.float32) @ turn @ tf.constant(_TO_YIQ, tf.float32)


def zoom_out_window(seed: tf.Tensor, largest: float) -> tf.Tensor:
    """Half of the time a window up to `largest` times the image, else the image: xyxy [4]."""
    keys = _split(seed, 3)
    ratio = tf.where(_coin(keys[0]), _uniform(keys[1], 1.0, largest), 1.0)
    low = -_uniform(keys[2], 0.0, 1.0, (2,)) * (ratio - 1.0)
    return tf.concat([low, low + ratio], axis=0)


def crop_window(boxes_xyxy: tf.Tensor, seed: tf.Tensor, smallest: float) -> tf.Tensor:
    """A random crop inside 0..1 that satisfies a randomly chosen minimum IoU: xyxy [4].

    Sides are `smallest` to 1 of the image, the aspect ratio 0.5 to 2. The crop must hold the centre
    of at least one box, and some box must overlap it with at least the chosen IoU. The whole image
    if no candidate does, or if there are no boxes.
    """
    keys = _split(seed, 3)
    choice = tf.random.stateless_uniform((), keys[0], 0, len(_MIN_IOUS), tf.int32)
    minimum = tf.gather(tf.constant(_MIN_IOUS), choice)
    size = _uniform(keys[1], smallest, 1.0, (_CANDIDATES, 2))
    low = _uniform(keys[2], 0.0, 1.0, (_CANDIDATES, 2)) * (1.0 - size)
    windows = tf.concat([low, low + size], axis=1)  # [50, 4]
    ratio = size[:, 0] / size[:, 1]
    overlaps = tf.reduce_max(boxes.pairwise_iou(windows, boxes_xyxy), axis=1) >= minimum
    holds = tf.reduce_any(_centres_inside(windows, boxes_xyxy), axis=1)
    good = overlaps & holds & (ratio >= 0.5) & (ratio <= 2.0) & (minimum >= 0.0)
    first = tf.argmax(good)  # the first True
    return tf.where(tf.reduce_any(good), windows[first], tf.constant([0.0, 0.0, 1.0, 1.0]))


def letterbox_window(window: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
    """The smallest square of pixels around a window's middle that holds it: xyxy [4].

    Of the whole image it is the canvas of the served preprocessing.

    Args:
        window: xyxy [4].
        extent: the image's width and height in pixels, float32 [2].
    """
    size = window[2:] - window[:2]
    grow = (tf.reduce_max(size * extent) / extent - size) / 2
    return tf.concat([window[:2] - grow, window[2:] + grow], axis=0)


def _centres_inside(windows: tf.Tensor, boxes_xyxy: tf.Tensor) -> tf.Tensor:
    """Whether window i holds the centre of box j: bool [W, N]."""
    return boxes.contain(windows, boxes.to_cxcywh(boxes_xyxy)[:, :2])


def cut(
    image: tf.Tensor,
    window: tf.Tensor,
    size: int,
    extent: tf.Tensor | None = None,
    outside: float | None = None,
) -> tf.Tensor:
    """The window of an image [H, W, 3], resized bilinearly: float32 [size, size, 3].

    Sampling is at half-pixel centres and without antialiasing, as OpenCV's INTER_LINEAR does in the
    served preprocessing; only the samples at the very edge of an enlarged image move inwards, by
    half a pixel at most.

    Args:
        extent: width and height of what `image` shows, in its pixels, float32 [2]; a little less
            than its own where it was decoded at a reduced scale, which rounds its sides up.
        outside: what lies outside the image becomes; None is the image's mean colour.
    """
    pixels = tf.cast(tf.shape(image)[:2], tf.float32)[::-1]  # width, height
    extent = pixels if extent is None else extent
    low, high = window[:2] * extent, window[2:] * extent
    step = (high - low) / size
    # crop_and_resize samples the corners at its box's edges, in units of (pixels - 1).
    edges = tf.concat([low + step / 2 - 0.5, high - step / 2 - 0.5], 0)
    # Samples in the outermost half pixel belong to the image, not to what lies outside.
    whole = tf.concat([tf.maximum(edges[:2], 0.0), tf.minimum(edges[2:], pixels - 1)], 0)
    edges = tf.where(tf.abs(edges - whole) <= 0.5, whole, edges)
    x1, y1, x2, y2 = tf.unstack(edges / tf.maximum(tf.tile(pixels - 1, [2]), 1.0))
    patch = tf.image.crop_and_resize(
        image[None], [[y1, x1, y2, x2]], [0], [size, size], extrapolation_value=OUTSIDE
    )[0]
    if outside is not None:
        return tf.where(patch == OUTSIDE, outside, patch)
    # Every 8th pixel is enough for a mean, and the whole picture is never made float.
    mean = tf.reduce_mean(tf.cast(image[::8, ::8], tf.float32), axis=(0, 1))
    return tf.where(patch == OUTSIDE, mean, patch)


def move_boxes(boxes_xyxy: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes in the window's coordinates, clipped to it, and which to keep.

    Returns:
        boxes_xyxy: float32 [N, 4], 0..1 over the window.
        keep: bool [N], those whose centre lies inside (the paper's rule).
    """
    keep = _centres_inside(window[None], boxes_xyxy)[0]
    origin, size = tf.tile(window[:2], [2]), tf.tile(window[2:] - window[:2], [2])
    return tf.clip_by_value((boxes_xyxy - origin) / size, 0.0, 1.0), keep


def flip(
    image: tf.Tensor, boxes_xyxy: tf.Tensor, seed: tf.Tensor, vertical: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors left and right half of the time and, if `vertical`, top and bottom too."""
    keys = _split(seed, 2)
    x1, y1, x2, y2 = tf.unstack(boxes_xyxy, axis=-1)
    if _coin(keys[0]):
        image, x1, x2 = image[:, ::-1], 1.0 - x2, 1.0 - x1
    if vertical and _coin(keys[1]):
        image, y1, y2 = image[::-1], 1.0 - y2, 1.0 - y1
    return image, tf.stack([x1, y1, x2, y2], axis=-1)
