"""Multibox loss: boxes of the matched default boxes, classes with hard negative mining.

SSD (arXiv 1512.02325), section 2.2 "Training objective" (equations 1 to 3) and "Hard negative
mining"; beside the paper's losses, GIoU (arXiv 1902.09630) for boxes and focal loss
(arXiv 1708.02002) or quality focal loss (arXiv 2006.04388) for classes.
"""

import numpy as np
import tensorflow as tf

from training.network import boxes
from training.network.matching import BACKGROUND
from training.network.presets import Preset

NEGATIVES_PER_POSITIVE = 3
FOCUS = 2.0  # gamma of the focal loss, its paper's section 4.1


def multibox_loss(
    predicted_offsets: tf.Tensor,
    logits: tf.Tensor,
    offsets: tf.Tensor,
    targets: tf.Tensor,
    default_cxcywh: tf.Tensor,
    preset: Preset,
    class_weights: np.ndarray | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Per image; divide by the number of matches of the *global* batch.

    Dividing is left to the caller, because under several replicas the count must be summed over
    all of them first: only then do N replicas give the numbers of one.

    Args:
        predicted_offsets: float32 [B, A, 4].
        logits: float32 [B, A, 1 + C], background first; [B, A, C] for the quality focal loss.
        offsets: float32 [B, A, 4], from `matching.match_boxes`.
        targets: int32 [B, A], from `matching.match_boxes`.
        default_cxcywh: float32 [A, 4].
        preset: which losses.
        class_weights: what a match counts in the class loss, by its class, float32 [C]; None: as
            much as background, 1.

    Returns:
        (localisation, classification, matches), each float32 [B], summed over an image's boxes.
    """
    positive, weights = targets > BACKGROUND, _weigh(targets, class_weights)
    matches = tf.reduce_sum(tf.cast(positive, tf.float32), axis=1)
    # What is not matched is masked before the exponentials too, or their gradient may be NaN.
    predicted = tf.where(positive[..., None], predicted_offsets, 0.0)
    predicted_xyxy = boxes.decode(predicted, default_cxcywh)
    matched_xyxy = boxes.decode(offsets, default_cxcywh)
    if preset.box_loss == "giou":
        localisation = 1.0 - boxes.giou(predicted_xyxy, matched_xyxy)
    else:
        localisation = _smooth_l1(predicted - offsets)
    if not preset.has_background:
        pairs = (predicted_xyxy, matched_xyxy)
        classification, sureness = _quality_focal(logits, targets, *pairs, weights)
        localisation = tf.where(positive, localisation * sureness, 0.0)
        return preset.box_weight * tf.reduce_sum(localisation, axis=1), classification, matches
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), logits)
    if preset.class_loss == "focal":
        chosen = targets >= BACKGROUND
        entropy *= (1.0 - tf.exp(-entropy)) ** FOCUS  # exp(-entropy) is the target's probability
    else:
        chosen = positive | _hard_negatives(entropy, targets)
    if weights is not None:
        entropy *= weights
    return (
        preset.box_weight * tf.reduce_sum(tf.where(positive, localisation, 0.0), axis=1),
        tf.reduce_sum(tf.where(chosen, entropy, 0.0), axis=1),
        matches,
    )


def _quality_focal(
    logits: tf.Tensor,
    targets: tf.Tensor,
    predicted_xyxy: tf.Tensor,
    matched_xyxy: tf.Tensor,
    weights: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Quality focal loss (arXiv 2006.04388, equation 4): the score learns the box's own IoU.

    Args:
        logits: float32 [B, A, C], one sigmoid a class.
        targets: int32 [B, A].
        predicted_xyxy, matched_xyxy: float32 [B, A, 4].
        weights: what each default box counts, float32 [B, A]; None: 1.

    Returns:
        The loss [B], summed; and how sure each default box is [B, A], by which its box counts.
    """
    quality = tf.stop_gradient(boxes.iou(predicted_xyxy, matched_xyxy))
    wanted = tf.one_hot(targets - 1, logits.shape[-1]) * quality[..., None]
    scores = tf.sigmoid(logits)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)
    loss = entropy * tf.abs(wanted - scores) ** FOCUS
    loss = tf.where((targets >= BACKGROUND)[..., None], loss, 0.0)
    if weights is not None:
        loss *= weights[..., None]
    return tf.reduce_sum(loss, axis=[1, 2]), tf.stop_gradient(tf.reduce_max(scores, axis=-1))


def _weigh(targets: tf.Tensor, class_weights: np.ndarray | None) -> tf.Tensor | None:
    """What each default box counts in the class loss, [B, A]."""
    if class_weights is None:
        return None
    return tf.gather(
        tf.constant([1.0, *class_weights], tf.float32), tf.maximum(targets, BACKGROUND)
    )


def _smooth_l1(difference: tf.Tensor) -> tf.Tensor:
    """Fast R-CNN, equation 3, summed over the four offsets: [B, A, 4] -> [B, A]."""
    size = tf.abs(difference)
    return tf.reduce_sum(tf.where(size < 1.0, 0.5 * size**2, size - 0.5), axis=-1)


def _hard_negatives(entropy: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The background boxes with the largest loss, three for each match of their image: [B, A].

    An image without a match keeps three of them, so that it still teaches what background is.
    """
    negative = tf.where(targets == BACKGROUND, tf.stop_gradient(entropy), -1.0)
    matches = tf.reduce_sum(tf.cast(targets > BACKGROUND, tf.int32), axis=1)
    wanted = NEGATIVES_PER_POSITIVE * tf.maximum(matches, 1)
    ranked = tf.sort(negative, axis=1, direction="DESCENDING")
    last = tf.minimum(wanted, tf.shape(ranked)[1]) - 1
    smallest = tf.gather(ranked, last, batch_dims=1)[:, None]
    return (negative >= smallest) & (negative >= 0.0)
