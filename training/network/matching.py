"""Matching default boxes to ground truth: by overlap, as SSD does, or adaptively, as ATSS."""

from collections.abc import Sequence

import tensorflow as tf

from training.network import boxes

BACKGROUND = 0  # class 0 of the network's outputs; object classes are shifted by one
IGNORED = -1  # takes no part in the loss
CANDIDATES = 9  # for an object on each feature map (ATSS, section 4.3)


def match_boxes(
    boxes_xyxy: tf.Tensor,
    classes: tf.Tensor,
    difficult: tf.Tensor,
    default_cxcywh: tf.Tensor,
    matching_iou: float = 0.5,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Targets of one image (SSD, section 2.2 "Matching strategy").

    Each ground truth box gets the default box with which it overlaps best, whatever the overlap
    (of two with one favourite only the later); then each other default box gets the ground truth
    with which its IoU is largest, if that is at least `matching_iou`. A `difficult` box claims no
    favourite, and what overlaps it takes no part in the loss.

    Args:
        boxes_xyxy: float32 [N, 4], normalised; N may be 0.
        classes: int32 [N], 0-based, without background.
        difficult: bool [N].
        default_cxcywh: float32 [A, 4].
        matching_iou: 0 to 1, the paper's is 0.5.

    Returns:
        offsets: float32 [A, 4], see `boxes.encode`; 0 where nothing matched.
        targets: int32 [A], 0 is background, k + 1 is class k, -1 is ignored.
    """
    count = default_cxcywh.shape[0]
    if tf.shape(boxes_xyxy)[0] == 0:
        return tf.zeros([count, 4]), tf.fill([count], BACKGROUND)
    iou = boxes.pairwise_iou(boxes_xyxy, boxes.to_xyxy(default_cxcywh))  # [N, A]
    owner, overlap = _owners(iou, difficult)
    return _targets(owner, overlap >= matching_iou, boxes_xyxy, classes, difficult, default_cxcywh)


def _targets(
    owner: tf.Tensor,
    is_matched: tf.Tensor,
    boxes_xyxy: tf.Tensor,
    classes: tf.Tensor,
    difficult: tf.Tensor,
    default_cxcywh: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Offsets and targets, given which ground truth [A] each default box has, if any."""
    count = default_cxcywh.shape[0]
    matched = tf.where(is_matched)  # [M, 1], few of all A
    owner = tf.gather_nd(owner, matched)
    offsets = boxes.encode(
        tf.gather(boxes_xyxy, owner), tf.gather_nd(default_cxcywh, matched)
    )  # [M, 4]
    targets = tf.where(tf.gather(difficult, owner), IGNORED, tf.gather(classes, owner) + 1)
    return (
        tf.scatter_nd(matched, offsets, tf.constant([count, 4], tf.int64)),
        tf.tensor_scatter_nd_update(tf.fill([count], BACKGROUND), matched, targets),
    )


def match_adaptively(
    boxes_xyxy: tf.Tensor,
    classes: tf.Tensor,
    difficult: tf.Tensor,
    default_cxcywh: tf.Tensor,
    maps: Sequence[int],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Targets of one image by adaptive training sample selection (arXiv 1912.02424, algorithm 1).

    The candidates for an object are the nearest default boxes of each feature map, by centre. Of
    these match the ones that overlap it by at least the mean and the standard deviation of all its
    candidates, and whose centre lies inside; if none does, the best one. A default box that several
    objects claim belongs to the one it overlaps most.

    Args:
        maps: how many default boxes each feature map has; together A.
        boxes_xyxy, classes, difficult, default_cxcywh: as for `match_boxes`.

    Returns:
        As `match_boxes`.
    """
    count = default_cxcywh.shape[0]
    if tf.shape(boxes_xyxy)[0] == 0:
        return tf.zeros([count, 4]), tf.fill([count], BACKGROUND)
    iou = boxes.pairwise_iou(boxes_xyxy, boxes.to_xyxy(default_cxcywh))  # [N, A]
    near = _nearest(boxes_xyxy, default_cxcywh, maps)
    inside = boxes.contain(boxes_xyxy, default_cxcywh[:, :2])
    chosen = near & inside & (iou >= _mean_and_deviation(iou, near))
    favourite = tf.argmax(tf.where(near, iou, -1.0), axis=1)
    best = tf.one_hot(favourite, count, on_value=True, off_value=False)
    chosen |= best & ~tf.reduce_any(chosen, axis=1, keepdims=True)
    claims = tf.where(chosen, iou, -1.0)
    return _targets(
        tf.argmax(claims, axis=0, output_type=tf.int32),
        tf.reduce_max(claims, axis=0) >= 0.0,
        boxes_xyxy,
        classes,
        difficult,
        default_cxcywh,
    )


def _nearest(boxes_xyxy: tf.Tensor, default_cxcywh: tf.Tensor, maps: Sequence[int]) -> tf.Tensor:
    """Whether a default box is one of the nearest of its map to a ground truth: bool [N, A]."""
    centres = boxes.to_cxcywh(boxes_xyxy)[:, None, :2]
    distances = tf.reduce_sum((centres - default_cxcywh[None, :, :2]) ** 2, axis=-1)
    parts = zip(tf.split(distances, list(maps), axis=1), maps, strict=True)
    return tf.concat(
        [part <= -tf.math.top_k(-part, min(CANDIDATES, n)).values[:, -1:] for part, n in parts],
        axis=1,
    )


def _mean_and_deviation(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """The sum of the two, over the chosen values of each row: [N, A] -> [N, 1]."""
    count = tf.reduce_sum(tf.cast(chosen, tf.float32), axis=1, keepdims=True)
    mean = tf.reduce_sum(tf.where(chosen, values, 0.0), axis=1, keepdims=True) / count
    squares = tf.where(chosen, (values - mean) ** 2, 0.0)
    return mean + tf.sqrt(tf.reduce_sum(squares, axis=1, keepdims=True) / count)


def _owners(iou: tf.Tensor, difficult: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """For each default box the ground truth it belongs to and their IoU: [A], [A]."""
    owner = tf.argmax(iou, axis=0, output_type=tf.int32)
    overlap = tf.reduce_max(iou, axis=0)
    favourite = tf.argmax(iou, axis=1, output_type=tf.int32)  # [N], may repeat
    # A scatter with repeated indices has no defined order, so the later box wins by a maximum.
    claims = tf.where(difficult, -1, tf.range(tf.shape(iou)[0]))
    claimed = tf.tensor_scatter_nd_max(tf.fill(tf.shape(owner), -1), favourite[:, None], claims)
    forced = claimed >= 0
    return tf.where(forced, claimed, owner), tf.where(forced, 2.0, overlap)
