"""Flipped and smaller views: their boxes lie in the image as it is."""

from typing import Any

import numpy as np
import pytest

from client.errors import InvalidParameter
from client.local.views import make_views

SIZE = (10, 10)
SCORES = np.zeros((1, 2, 3), np.float32)
BOXES = np.array([[[0.1, 0.2, 0.3, 0.6], [0, 0, 1, 1]]], np.float32)


def test_without_flips_the_image_is_seen_as_it_is() -> None:
    (view,) = make_views(())
    image = np.zeros((1, 2, 2, 3), np.uint8)

    assert view.show(image) is image
    np.testing.assert_array_equal(view.restore((BOXES, SCORES), SIZE)[0], BOXES[0])


@pytest.mark.parametrize(
    ("flip", "box"),
    [("horizontal", [0.7, 0.2, 0.9, 0.6]), ("vertical", [0.1, 0.4, 0.3, 0.8])],
)
def test_boxes_are_flipped_back(flip: Any, box: list[float]) -> None:
    _, view = make_views([flip, flip])

    boxes, scores = view.restore((BOXES, SCORES), SIZE)

    np.testing.assert_allclose(boxes, np.array([box, [0.0, 0.0, 1.0, 1.0]]), atol=1e-6)
    assert scores.shape == (2, 3)


def test_a_pixel_goes_where_its_box_does() -> None:
    image = np.zeros((1, 10, 10, 3), np.uint8)
    image[0, 2:6, 1:3] = 255  # BOXES' first
    for view in make_views(["horizontal", "vertical"]):
        rows, columns = np.nonzero(view.show(image)[0, ..., 0])
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 10

        (found,), _ = view.restore((seen.astype(np.float32).reshape(1, 1, 4), SCORES), SIZE)

        np.testing.assert_allclose(found, BOXES[0, 0], atol=1e-6)


@pytest.mark.parametrize("flips", ["horizontal", ["sideways"], [None]])
def test_a_wrong_flip_is_told(flips: Any) -> None:
    with pytest.raises(InvalidParameter, match="list of horizontal and vertical, found"):
        make_views(flips)


def test_a_smaller_image_lies_in_grey_and_what_is_seen_there_has_no_area() -> None:
    _, view = make_views([], [0.5])

    seen = view.show(np.zeros((1, 40, 20, 3), np.uint8))
    boxes = np.array([[[0.25, 0.25, 0.75, 0.75], [0, 0, 0.2, 0.2]]], np.float32)
    (whole, grey), _ = view.restore((boxes, SCORES), (40, 20))

    assert seen.shape == (1, 40, 20, 3)
    assert (seen == 0).all(axis=-1).sum() == 20 * 10
    np.testing.assert_allclose(whole, [0, 0, 1, 1])
    assert grey[0] == grey[2]


@pytest.mark.parametrize("scales", [0.8, [1.0], [1.5], [0.1], ["half"], "half"])
def test_a_wrong_scale_is_told(scales: Any) -> None:
    with pytest.raises(InvalidParameter, match="scales must be a list of numbers"):
        make_views([], scales)
