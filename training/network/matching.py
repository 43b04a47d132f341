"""Matching default boxes to ground truth (SSD, section 2.2 "Matching strategy")."""

import tensorflow as tf

from training.network import boxes

BACKGROUND = 0  # class 0 of the network's outputs; object classes are shifted by one
IGNORED = -1  # takes no part in the loss


def match_boxes(
    boxes_xyxy: tf.Tensor,
    classes: tf.Tensor,
    difficult: tf.Tensor,
    default_cxcywh: tf.Tensor,
    matching_iou: float = 0.5,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Targets of one image.

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
    matched = tf.where(overlap >= matching_iou)  # [M, 1], few of all A
    owner = tf.gather_nd(owner, matched)
    offsets = boxes.encode(
        tf.gather(boxes_xyxy, owner), tf.gather_nd(default_cxcywh, matched)
    )  # [M, 4]
    targets = tf.where(tf.gather(difficult, owner), IGNORED, tf.gather(classes, owner) + 1)
    return (
        tf.scatter_nd(matched, offsets, tf.constant([count, 4], tf.int64)),
        tf.tensor_scatter_nd_update(tf.fill([count], BACKGROUND), matched, targets),
    )


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
