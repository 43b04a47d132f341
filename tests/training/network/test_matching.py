import numpy as np
import pytest
import tensorflow as tf

from training.network import boxes, matching
from training.network.default_boxes import boxes_per_map, default_boxes
from training.network.presets import SSD_LITE0

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


# Adaptive training sample selection.

GRID = SSD_LITE0
GRID_BOXES = default_boxes(GRID)
MAPS = boxes_per_map(GRID)


def _match_adaptively(boxes_xyxy, classes, difficult=None) -> tuple[np.ndarray, np.ndarray]:
    offsets, targets = matching.match_adaptively(
        tf.reshape(tf.constant(boxes_xyxy, tf.float32), [-1, 4]),
        tf.constant(classes, tf.int32),
        tf.constant(difficult or [False] * len(classes), tf.bool),
        tf.constant(GRID_BOXES),
        MAPS,
    )
    return offsets.numpy(), targets.numpy()


def _reference(boxes_xyxy: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Algorithm 1 of the paper, object by object."""
    iou = boxes.pairwise_iou(boxes_xyxy, boxes.to_xyxy(GRID_BOXES)).numpy()
    best, targets = np.full(len(GRID_BOXES), -1.0), np.zeros(len(GRID_BOXES), int)
    for row, (box, label) in enumerate(zip(boxes_xyxy, classes, strict=True)):
        centre, first, candidates = (box[:2] + box[2:]) / 2, 0, []
        for size in MAPS:
            distances = ((GRID_BOXES[first : first + size, :2] - centre) ** 2).sum(axis=1)
            candidates += [*(first + np.argsort(distances, kind="stable")[: min(9, size)])]
            first += size
        of_all = iou[row, candidates]
        threshold = of_all.mean() + of_all.std()
        inside = ((GRID_BOXES[:, :2] > box[:2]) & (GRID_BOXES[:, :2] < box[2:])).all(axis=1)
        chosen = [i for i in candidates if iou[row, i] >= threshold and inside[i]]
        for i in chosen or [max(sorted(candidates), key=lambda i: iou[row, i])]:
            if iou[row, i] > best[i]:
                best[i], targets[i] = iou[row, i], label + 1
    return targets


def test_no_boxes_match_nothing_adaptively() -> None:
    offsets, targets = _match_adaptively([], [])
    assert not targets.any()
    assert not offsets.any()


@pytest.mark.parametrize("seed", range(5))
def test_adaptive_matching_against_a_plain_reference(seed: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 0.7, (6, 2))
    found = np.concatenate([low, low + generator.uniform(0.02, 0.3, (6, 2))], axis=1)
    boxes_xyxy = found.astype(np.float32)
    classes = generator.integers(0, 3, 6)
    offsets, targets = _match_adaptively(boxes_xyxy, classes)
    np.testing.assert_array_equal(targets, _reference(boxes_xyxy, classes))
    matched = targets > 0
    decoded = boxes.decode(tf.constant(offsets[matched]), GRID_BOXES[matched]).numpy()
    apart = np.abs(decoded[:, None] - boxes_xyxy[None]).max(axis=2).min(axis=1)
    assert apart.max() < 1e-4  # each is one of the objects


def test_an_object_smaller_than_any_cell_has_a_match() -> None:
    _, targets = _match_adaptively([[0.5, 0.5, 0.503, 0.503]], [1])
    assert (targets == 2).sum() == 1


def test_difficult_objects_take_no_part_adaptively() -> None:
    _, targets = _match_adaptively([[0.1, 0.1, 0.4, 0.4]], [0], [True])
    assert (targets == matching.IGNORED).sum() > 0
    assert not (targets > 0).any()
