import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.network import boxes

NO_BOXES = tf.zeros([0, 4])

# Rows x, y, width, height of boxes that are not degenerate.
shapes = hnp.arrays(
    np.float64, (5, 4), elements=st.floats(0.01, 0.9, allow_nan=False, allow_infinity=False)
)


def test_no_boxes() -> None:
    assert boxes.to_cxcywh(NO_BOXES).shape == (0, 4)
    assert boxes.pairwise_iou(NO_BOXES, tf.constant([[0.0, 0.0, 1.0, 1.0]])).shape == (0, 1)


def test_iou_of_known_pairs() -> None:
    a = tf.constant([[0.0, 0.0, 2.0, 2.0]])
    b = tf.constant(
        [[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 4.0, 2.0], [1.0, 1.0, 1.0, 1.0]]
    )
    np.testing.assert_allclose(boxes.pairwise_iou(a, b)[0], [1.0, 1 / 7, 0.0, 0.0], rtol=1e-6)


def test_iou_of_two_empty_boxes_is_zero() -> None:
    point = tf.constant([[0.5, 0.5, 0.5, 0.5]])
    assert float(boxes.pairwise_iou(point, point)[0, 0]) == 0.0


@given(shapes)
def test_formats_round_trip(rows: np.ndarray) -> None:
    xyxy = tf.constant(np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]]), tf.float32)
    np.testing.assert_allclose(boxes.to_xyxy(boxes.to_cxcywh(xyxy)), xyxy, atol=1e-6)


@given(shapes, shapes)
def test_decoding_undoes_encoding(rows: np.ndarray, default: np.ndarray) -> None:
    xyxy = tf.constant(np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]]), tf.float32)
    default_cxcywh = tf.constant(default, tf.float32)
    decoded = boxes.decode(boxes.encode(xyxy, default_cxcywh), default_cxcywh)
    np.testing.assert_allclose(decoded, xyxy, atol=1e-4)


def test_encoding_is_the_papers() -> None:
    """SSD, section 2.2: (g_cx - d_cx) / d_w and log(g_w / d_w), over the variances."""
    encoded = boxes.encode(tf.constant([[0.4, 0.4, 0.8, 0.6]]), tf.constant([[0.5, 0.5, 0.2, 0.4]]))
    wanted = [0.1 / 0.2 / 0.1, 0.0, np.log(0.4 / 0.2) / 0.2, np.log(0.2 / 0.4) / 0.2]
    np.testing.assert_allclose(encoded[0], wanted, atol=1e-5)


def test_giou_of_known_pairs() -> None:
    """Apart: the empty part of the hull counts below 0 (arXiv 1902.09630, algorithm 1)."""
    a = tf.constant([[0.0, 0.0, 2.0, 2.0]] * 4)
    b = tf.constant(
        [[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [4.0, 0.0, 6.0, 2.0], [0.0, 0.0, 2.0, 1.0]]
    )
    wanted = [1.0, 1 / 7 - 2 / 9, -4 / 12, 0.5]
    np.testing.assert_allclose(boxes.giou(a, b), wanted, rtol=1e-6)
