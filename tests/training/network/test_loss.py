import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from training.network import boxes
from training.network.loss import multibox_loss
from training.network.presets import SSD300_VGG16 as PAPER
from training.network.presets import Preset

GIOU = dataclasses.replace(PAPER, box_loss="giou")
FOCAL = dataclasses.replace(PAPER, class_loss="focal")
QUALITY = dataclasses.replace(PAPER, box_loss="giou", class_loss="quality")


def _loss(
    predicted: np.ndarray,
    logits: np.ndarray | tf.Variable,
    offsets: np.ndarray,
    targets: np.ndarray,
    preset: Preset = PAPER,
    class_weights: np.ndarray | None = None,
) -> list[tf.Tensor]:
    """The sums over the batch; every default box is the middle quarter of the image."""
    default_cxcywh = np.full((targets.shape[1], 4), 0.5, np.float32)
    losses = multibox_loss(
        tf.constant(predicted), tf.convert_to_tensor(logits), tf.constant(offsets),
        tf.constant(targets), default_cxcywh, preset, class_weights,
    )  # fmt: skip
    return [tf.reduce_sum(part) for part in losses]


def _reference(
    predicted: np.ndarray, logits: np.ndarray, offsets: np.ndarray, targets: np.ndarray
) -> tuple[float, float, int]:
    """Image by image and box by box, after equations 1 to 3 and the 3:1 rule of section 2.2."""
    localisation = classification = 0.0
    for row in range(len(targets)):
        shifted = logits[row] - logits[row].max(axis=1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        losses = [-log_softmax[i, max(t, 0)] for i, t in enumerate(targets[row])]
        positives = [i for i, t in enumerate(targets[row]) if t > 0]
        negatives = sorted(
            (i for i, t in enumerate(targets[row]) if t == 0), key=lambda i: -losses[i]
        )
        chosen = positives + negatives[: 3 * max(1, len(positives))]
        classification += sum(losses[i] for i in chosen)
        for i in positives:
            for d in np.abs(predicted[row, i] - offsets[row, i]):
                localisation += 0.5 * d * d if d < 1 else d - 0.5
    return localisation, classification, int((targets > 0).sum())


def test_against_a_plain_reference() -> None:
    generator = np.random.default_rng(3)
    predicted, offsets = generator.normal(0, 2, (2, 3, 40, 4)).astype(np.float32)
    logits = generator.normal(0, 2, (3, 40, 4)).astype(np.float32)
    targets = generator.choice([-1, 0, 0, 0, 0, 0, 0, 1, 3], (3, 40)).astype(np.int32)
    found = _loss(predicted, logits, offsets, targets)
    np.testing.assert_allclose(found, _reference(predicted, logits, offsets, targets), rtol=1e-5)


def test_an_image_without_objects_still_teaches_background() -> None:
    zeros = np.zeros((1, 10, 4), np.float32)
    localisation, classification, matches = _loss(
        zeros, np.zeros((1, 10, 2), np.float32), zeros, np.zeros((1, 10), np.int32)
    )
    assert float(localisation) == 0.0
    assert float(matches) == 0.0
    # All ten losses tie at log 2, so all count as the hardest.
    np.testing.assert_allclose(classification, 10 * np.log(2), rtol=1e-5)


@pytest.mark.parametrize("preset", [PAPER, FOCAL, QUALITY])
def test_ignored_boxes_have_no_gradient(preset: Preset) -> None:
    logits = tf.Variable(tf.random.stateless_normal([1, 6, 3], [0, 0]))
    zeros = np.zeros((1, 6, 4), np.float32)
    targets = np.array([[-1, 1, 0, 0, 0, 0]], np.int32)
    with tf.GradientTape() as tape:
        loss = _loss(zeros, logits, zeros, targets, preset)[1]
    gradient = tape.gradient(loss, logits).numpy()[0]
    assert not gradient[0].any()
    assert gradient[1].any()


@pytest.mark.parametrize("preset", [PAPER, FOCAL, QUALITY])
def test_class_weights_scale_what_matched_in_the_class_loss(preset: Preset) -> None:
    """Box by box, those of background and the box loss staying what they are."""
    generator = np.random.default_rng(6)
    logits = generator.normal(0, 2, (1, 8, 3)).astype(np.float32)
    predicted, offsets = generator.normal(0, 1, (2, 1, 8, 4)).astype(np.float32)
    targets = np.array([[1, 2, 2, 0, 0, 0, 0, -1]], np.int32)
    arguments = (predicted, logits, offsets)
    plain = _loss(*arguments, targets, preset)
    count = 2 if preset.has_background else 3
    twice = np.full(count, 2, np.float32)
    by_class = [np.where(np.arange(count) == k, 2, 1).astype(np.float32) for k in (0, 1)]
    both = _loss(*arguments, targets, preset, twice)[1] - plain[1]
    each = [_loss(*arguments, targets, preset, weights) for weights in by_class]
    assert float(both) > 0
    np.testing.assert_allclose(sum(one[1] - plain[1] for one in each), both, rtol=1e-4)
    assert each[0][0] == each[1][0] == plain[0]
    background = _loss(*arguments, np.where(targets > 0, -1, targets), FOCAL)[1]
    if preset is FOCAL:
        np.testing.assert_allclose(plain[1] - both, background, rtol=1e-4)


def test_giou_loss_of_matched_boxes() -> None:
    """One minus the GIoU of the decoded boxes, for matches alone."""
    generator = np.random.default_rng(4)
    predicted, offsets = generator.normal(0, 1, (2, 2, 5, 4)).astype(np.float32)
    targets = np.array([[0, 1, 0, 2, -1], [0, 0, 0, 0, 3]], np.int32)
    found = _loss(predicted, np.zeros((2, 5, 4), np.float32), offsets, targets, GIOU)[0]
    default_cxcywh = np.full((5, 4), 0.5, np.float32)
    giou = boxes.giou(
        boxes.decode(predicted, default_cxcywh), boxes.decode(offsets, default_cxcywh)
    )
    np.testing.assert_allclose(found, (1 - giou.numpy())[targets > 0].sum(), rtol=1e-5)


def test_giou_loss_survives_wild_offsets_where_nothing_matched() -> None:
    predicted = tf.Variable(np.full((1, 2, 4), 1e4, np.float32))
    predicted[0, 0].assign(tf.zeros(4))
    zeros, targets = np.zeros((1, 2, 4), np.float32), np.array([[1, 0]], np.int32)
    with tf.GradientTape() as tape:
        loss = multibox_loss(
            predicted, tf.zeros([1, 2, 3]), zeros, targets, np.full((2, 4), 0.5, np.float32), GIOU
        )[0]
    assert np.isfinite(tape.gradient(loss, predicted).numpy()).all()


def test_focal_loss_is_its_papers() -> None:
    """Equation 4 without weights: -(1 - p)^2 log(p) of the target, over every box."""
    logits = np.random.default_rng(5).normal(0, 2, (1, 6, 3)).astype(np.float32)
    targets = np.array([[-1, 1, 0, 2, 0, 0]], np.int32)
    zeros = np.zeros((1, 6, 4), np.float32)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    of_target = p[0, range(1, 6), targets[0, 1:]]
    wanted = -((1 - of_target) ** 2 * np.log(of_target)).sum()
    np.testing.assert_allclose(_loss(zeros, logits, zeros, targets, FOCAL)[1], wanted, rtol=1e-5)


def test_losses_come_image_by_image() -> None:
    """So that the image with a loss that is no number can be named."""
    predicted = np.zeros((3, 4, 4), np.float32)
    predicted[1, 0] = np.nan
    targets = np.array([[1, 0, 0, 0]] * 3, np.int32)
    zeros, default_cxcywh = np.zeros((3, 4, 4), np.float32), np.full((4, 4), 0.5, np.float32)
    parts = multibox_loss(
        tf.constant(predicted), tf.zeros([3, 4, 2]), zeros, targets, default_cxcywh, PAPER
    )
    assert np.isfinite(parts[0]).tolist() == [True, False, True]
    assert np.isfinite(parts[1]).all()


def test_quality_focal_loss_against_a_plain_reference() -> None:
    """Equation 4 of its paper, box by box; a box counts as much as its score is sure."""
    generator = np.random.default_rng(7)
    predicted, offsets = generator.normal(0, 1, (2, 2, 12, 4)).astype(np.float32)
    logits = generator.normal(0, 2, (2, 12, 3)).astype(np.float32)
    targets = generator.choice([-1, 0, 0, 1, 3], (2, 12)).astype(np.int32)
    middle = np.full((12, 4), 0.5, np.float32)
    localisation = classification = 0.0
    for row in range(2):
        found, wanted = (boxes.decode(x[row], middle) for x in (predicted, offsets))
        giou = boxes.giou(found, wanted).numpy()
        iou = np.diag(boxes.pairwise_iou(found, wanted))
        for i, target in enumerate(targets[row]):
            scores = 1 / (1 + np.exp(-logits[row, i].astype(np.float64)))
            if target > 0:
                localisation += (1 - giou[i]) * scores.max()
            if target >= 0:
                for label, score in enumerate(scores):
                    quality = iou[i] if label == target - 1 else 0.0
                    entropy = -quality * np.log(score) - (1 - quality) * np.log(1 - score)
                    classification += abs(quality - score) ** 2 * entropy
    losses = _loss(predicted, logits, offsets, targets, QUALITY)
    expected = [localisation, classification, (targets > 0).sum()]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
