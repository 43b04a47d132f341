import numpy as np
import tensorflow as tf

from training.loss import multibox_loss


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
    found = multibox_loss(*(tf.constant(x) for x in (predicted, logits, offsets, targets)))
    np.testing.assert_allclose(found, _reference(predicted, logits, offsets, targets), rtol=1e-5)


def test_an_image_without_objects_still_teaches_background() -> None:
    zeros = tf.zeros([1, 10, 4])
    localisation, classification, matches = multibox_loss(
        zeros, tf.zeros([1, 10, 2]), zeros, tf.zeros([1, 10], tf.int32)
    )
    assert float(localisation) == 0.0
    assert float(matches) == 0.0
    # All ten losses tie at log 2, so all count as the hardest.
    np.testing.assert_allclose(classification, 10 * np.log(2), rtol=1e-5)


def test_ignored_boxes_have_no_gradient() -> None:
    logits = tf.Variable(tf.random.stateless_normal([1, 6, 3], [0, 0]))
    zeros = tf.zeros([1, 6, 4])
    targets = tf.constant([[-1, 1, 0, 0, 0, 0]])
    with tf.GradientTape() as tape:
        loss = multibox_loss(zeros, logits, zeros, targets)[1]
    gradient = tape.gradient(loss, logits).numpy()[0]
    assert not gradient[0].any()
    assert gradient[1].any()
