"""Which photo comes first, on photos that are nothing but numbers."""

import numpy as np
import pytest

from training.labelling.order import (
    Choice,
    measure_doubts,
    measure_uncertainty,
    order_photos,
    weigh_classes,
)

NONE = np.zeros((0, 2))


def looks(count: int) -> list[bytes]:
    """Of photos that are unlike each other."""
    rng = np.random.default_rng(0)
    return [rng.integers(-127, 128, 512).astype(np.int8).tobytes() for _ in range(count)]


def places(order: list[Choice]) -> list[int]:
    return [choice.place for choice in order]


def test_a_score_of_a_half_is_doubted_most() -> None:
    found = measure_doubts(np.array([0.0, 0.05, 0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(found, [0, 0.01, 0.25, 1, 0.25, 0])
    assert measure_doubts(np.zeros(0)).shape == (0,)


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    np.testing.assert_allclose(weigh_classes(np.array([98, 8, 0])), [109 / 99, 109 / 9, 109])
    np.testing.assert_allclose(weigh_classes(np.zeros(2, int)), [2, 2])


def test_doubts_add_up_by_class() -> None:
    doubts = [np.array([1.0, 0.5, 0.25]), np.array([0.5])]
    found = measure_uncertainty(doubts, [np.array([0, 1, 0]), np.array([1])], np.array([1.0, 10]))
    np.testing.assert_allclose(found, np.array([[1.25, 5], [0, 5]]))


def test_where_nothing_is_found_nobody_knows() -> None:
    nothing, one = np.zeros(0), np.ones(0, int)
    doubts = [np.array([1.0]), nothing, np.array([0.5])]
    classes = [np.array([0]), one, np.array([0])]
    found = measure_uncertainty(doubts, classes, np.ones(1))
    np.testing.assert_allclose(found.ravel(), [1, 0.75, 0.5])
    assert measure_uncertainty([nothing], [one], np.ones(1)) == [[0]]


def test_the_most_doubted_comes_first() -> None:
    features = np.array([[0.0, 0], [1, 0], [0, 1]])
    order = order_photos(np.array([1.0, 3, 2]), features, looks(3), NONE, 1)
    assert order == [Choice(1, 1.0)]


def test_of_equally_doubted_ones_the_farthest_comes_next() -> None:
    features = np.array([[0.0, 0], [1, 0], [10, 0], [4, 0]])
    order = order_photos(np.ones(4), features, looks(4), NONE, 4)
    assert places(order) == [0, 2, 3, 1]  # k-center greedy
    assert [choice.distance for choice in order[1:]] == sorted(
        (choice.distance for choice in order[1:]), reverse=True
    )


def test_what_is_labelled_counts_as_chosen() -> None:
    features = np.array([[0.0, 0], [1, 0], [10, 0]])
    known = np.array([[0.5, 0]])
    assert places(order_photos(np.ones(3), features, looks(3), known, 2)) == [2, 0]


def test_doubt_outweighs_a_little_distance_and_distance_a_little_doubt() -> None:
    features, known = np.array([[2.0, 0], [-3, 0]]), np.array([[0.0, 0]])
    for doubts, first in (([4.0, 1], 0), ([1.1, 1], 1)):
        assert places(order_photos(np.array(doubts), features, looks(2), known, 1)) == [first]


def test_a_near_duplicate_comes_last_however_doubted() -> None:
    features = np.array([[0.0, 0], [5, 0], [3, 0], [4, 0]])
    same = looks(3)
    order = order_photos(np.array([9.0, 8, 0, 1]), features, [same[0], *same], NONE, 4)
    assert places(order) == [0, 3, 2, 1]
    assert order[-1].distance == 0


@pytest.mark.parametrize("doubts", [0.0, 1.0])
def test_photos_that_are_all_alike_stay_in_their_order(doubts: float) -> None:
    order = order_photos(np.full(4, doubts), np.ones((4, 2)), [b""] * 4, NONE, 4)
    assert places(order) == [0, 1, 2, 3]
