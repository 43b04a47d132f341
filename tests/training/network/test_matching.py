import numpy as np
import tensorflow as tf

from training.network import boxes, matching

DEFAULT = tf.constant(
    [[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2], [0.5, 0.5, 0.8, 0.8]]
)
NEVER = tf.constant([False])


def _match(
    boxes_xyxy: list[list[float]], classes: list[int], difficult: list[bool] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    offsets, targets = matching.match_boxes(
        tf.reshape(tf.constant(boxes_xyxy, tf.float32), [-1, 4]),
        tf.constant(classes, tf.int32),
        tf.constant(difficult or [False] * len(classes), tf.bool),
        DEFAULT,
    )
    return offsets.numpy(), targets.numpy()


def test_no_boxes_is_all_background() -> None:
    offsets, targets = _match([], [])
    assert targets.tolist() == [0, 0, 0, 0]
    assert not offsets.any()


def test_perfect_overlap() -> None:
    offsets, targets = _match([[0.4, 0.4, 0.6, 0.6]], [2])
    assert targets.tolist() == [0, 3, 0, 0]
    np.testing.assert_allclose(offsets, 0.0, atol=1e-5)


def test_best_default_box_matches_whatever_the_overlap() -> None:
    """Section 2.2: each ground truth box gets the default box with the best overlap."""
    _, targets = _match([[0.11, 0.11, 0.15, 0.15]], [0])
    assert targets.tolist() == [1, 0, 0, 0]


def test_every_default_box_over_half_matches() -> None:
    offsets, targets = _match([[0.1, 0.1, 0.32, 0.32], [0.12, 0.12, 0.88, 0.88]], [0, 1])
    assert targets.tolist() == [1, 0, 0, 2]
    decoded = boxes.decode(tf.constant(offsets), DEFAULT).numpy()
    np.testing.assert_allclose(decoded[0], [0.1, 0.1, 0.32, 0.32], atol=1e-5)


def test_of_two_boxes_with_one_favourite_the_later_wins() -> None:
    _, targets = _match([[0.11, 0.11, 0.15, 0.15], [0.2, 0.2, 0.24, 0.24]], [0, 1])
    assert targets.tolist() == [2, 0, 0, 0]


def test_a_difficult_box_takes_no_other_boxs_match() -> None:
    """Both overlap the first default box best, and only a little."""
    _, targets = _match([[0.11, 0.11, 0.15, 0.15], [0.2, 0.2, 0.24, 0.24]], [0, 1], [False, True])
    assert targets.tolist() == [1, 0, 0, 0]


def test_difficult_boxes_take_no_part() -> None:
    _, targets = _match([[0.4, 0.4, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9]], [0, 0], [True, False])
    assert targets.tolist() == [0, matching.IGNORED, 1, 0]
