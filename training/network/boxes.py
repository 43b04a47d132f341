"""Box arithmetic on `[..., 4]` float tensors.

Two formats, always in the variable's name: `xyxy` (x1, y1, x2, y2 with x1 <= x2, y1 <= y2) and
`cxcywh` (centre, width, height). Normalised coordinates run from 0 to 1 over the image.
"""

import tensorflow as tf

# Scales of the encoded offsets, SSD's Caffe code (prior_variance); they bring the four regression
# targets to similar size. The order is (centre, size).
VARIANCES = (0.1, 0.2)


def to_cxcywh(boxes_xyxy: tf.Tensor) -> tf.Tensor:
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return tf.concat([(low + high) / 2.0, high - low], axis=-1)


def to_xyxy(boxes_cxcywh: tf.Tensor) -> tf.Tensor:
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2.0
    return tf.concat([centre - half, centre + half], axis=-1)


def area(boxes_xyxy: tf.Tensor) -> tf.Tensor:
    size = tf.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0.0)
    return size[..., 0] * size[..., 1]


def pairwise_iou(a_xyxy: tf.Tensor, b_xyxy: tf.Tensor) -> tf.Tensor:
    """Intersection over union of every box of `a` [N, 4] with every box of `b` [M, 4]: [N, M].

    Two boxes of zero area have an IoU of 0.
    """
    # Coordinate by coordinate: long rows of [N, M] instead of pairs, several times as fast.
    ax1, ay1, ax2, ay2 = tf.unstack(a_xyxy[:, :, None], axis=1)
    bx1, by1, bx2, by2 = tf.unstack(b_xyxy, axis=1)
    width = tf.maximum(tf.minimum(ax2, bx2) - tf.maximum(ax1, bx1), 0.0)
    height = tf.maximum(tf.minimum(ay2, by2) - tf.maximum(ay1, by1), 0.0)
    intersection = width * height
    union = area(a_xyxy)[:, None] + area(b_xyxy)[None, :] - intersection
    return tf.math.divide_no_nan(intersection, union)


def encode(boxes_xyxy: tf.Tensor, default_cxcywh: tf.Tensor) -> tf.Tensor:
    """Offsets [N, 4] from default boxes [N, 4] to boxes [N, 4] (SSD, section 2.2, equation 2)."""
    boxes_cxcywh = to_cxcywh(boxes_xyxy)
    centre = (boxes_cxcywh[..., :2] - default_cxcywh[..., :2]) / default_cxcywh[..., 2:]
    size = tf.math.log(tf.maximum(boxes_cxcywh[..., 2:], 1e-6) / default_cxcywh[..., 2:])
    return tf.concat([centre / VARIANCES[0], size / VARIANCES[1]], axis=-1)


def decode(offsets: tf.Tensor, default_cxcywh: tf.Tensor) -> tf.Tensor:
    """The inverse of `encode`: offsets [..., N, 4] -> boxes xyxy [..., N, 4], not clipped."""
    centre = offsets[..., :2] * VARIANCES[0] * default_cxcywh[..., 2:] + default_cxcywh[..., :2]
    size = tf.exp(offsets[..., 2:] * VARIANCES[1]) * default_cxcywh[..., 2:]
    return to_xyxy(tf.concat([centre, size], axis=-1))


def iou(a_xyxy: tf.Tensor, b_xyxy: tf.Tensor) -> tf.Tensor:
    """IoU of boxes [..., 4] pair by pair: [...]."""
    return tf.math.divide_no_nan(*_intersection_and_union(a_xyxy, b_xyxy))


def giou(a_xyxy: tf.Tensor, b_xyxy: tf.Tensor) -> tf.Tensor:
    """Generalized IoU of boxes [..., 4] pair by pair, -1 to 1: [...] (arXiv 1902.09630)."""
    intersection, union = _intersection_and_union(a_xyxy, b_xyxy)
    hull_low = tf.minimum(a_xyxy[..., :2], b_xyxy[..., :2])
    hull_high = tf.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    hull = area(tf.concat([hull_low, hull_high], axis=-1))
    return tf.math.divide_no_nan(intersection, union) - tf.math.divide_no_nan(hull - union, hull)


def contain(a_xyxy: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Whether box i of [N, 4] holds point j of [M, 2] inside: bool [N, M]."""
    inside = (points[None] > a_xyxy[:, None, :2]) & (points[None] < a_xyxy[:, None, 2:])
    return tf.reduce_all(inside, axis=-1)


def _intersection_and_union(a_xyxy: tf.Tensor, b_xyxy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The areas of both, pair by pair: [...], [...]."""
    low = tf.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = tf.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    intersection = area(tf.concat([low, high], axis=-1))
    return intersection, area(a_xyxy) + area(b_xyxy) - intersection
