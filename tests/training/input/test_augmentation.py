import colorsys

import numpy as np
import pytest
import tensorflow as tf

from training.input import augmentation

WHOLE = tf.constant([0.0, 0.0, 1.0, 1.0])
BOXES = tf.constant([[0.1, 0.2, 0.4, 0.5], [0.6, 0.6, 0.9, 0.95]])
SEEDS = [tf.constant([7, i]) for i in range(40)]


def _image() -> tf.Tensor:
    return tf.random.stateless_uniform([60, 80, 3], [1, 2], 0, 256, tf.int32)


def test_cutting_the_whole_image_is_a_plain_resize() -> None:
    resized = tf.image.resize(_image(), [30, 30], method="bilinear")
    np.testing.assert_allclose(augmentation.cut(_image(), WHOLE, 30), resized, atol=0.01)


def test_cutting_moves_pixels_and_boxes_alike() -> None:
    """A white rectangle on black is where its box says, for windows inside and outside."""
    image = np.zeros((200, 200, 3), np.uint8)
    image[40:80, 100:160] = 255
    box = tf.constant([[0.5, 0.2, 0.8, 0.4]])
    for window in ([0.4, 0.1, 0.9, 0.6], [-0.5, -0.3, 1.5, 1.7], [0.2, 0.0, 1.0, 1.0]):
        patch = augmentation.cut(tf.constant(image), tf.constant(window), 100).numpy()
        moved, keep = augmentation.move_boxes(box, tf.constant(window))
        bright_y, bright_x = np.nonzero(patch[..., 0] > 128)
        edges = [bright_x.min(), bright_y.min(), bright_x.max() + 1, bright_y.max() + 1]
        np.testing.assert_allclose(edges, moved[0] * 100, atol=1.01)
        assert keep.numpy().tolist() == [True]


def test_boxes_whose_centre_is_outside_are_dropped() -> None:
    moved, keep = augmentation.move_boxes(BOXES, tf.constant([0.0, 0.0, 0.7, 0.7]))
    assert keep.numpy().tolist() == [True, False]
    np.testing.assert_allclose(moved[0], BOXES[0] / 0.7, rtol=1e-6)


def test_crops_lie_inside_and_hold_a_centre() -> None:
    sizes = set()
    for seed in SEEDS:
        window = augmentation.crop_window(BOXES, seed, 0.3).numpy()
        assert (window >= 0).all()
        assert (window <= 1 + 1e-6).all()
        assert augmentation.move_boxes(BOXES, tf.constant(window))[1].numpy().any()
        sizes.add(round(float(window[2] - window[0]), 3))
    assert len(sizes) > 10


def test_crop_without_boxes_is_the_whole_image() -> None:
    window = augmentation.crop_window(tf.zeros([0, 4]), SEEDS[0], 0.3)
    assert window.numpy().tolist() == [0, 0, 1, 1]


def test_zoom_out_windows_hold_the_image() -> None:
    windows = np.array([augmentation.zoom_out_window(seed, 4.0) for seed in SEEDS])
    assert (windows[:, :2] <= 0).all()
    assert (windows[:, 2:] >= 1).all()
    assert 0.2 < (windows == WHOLE.numpy()).all(axis=1).mean() < 0.8


def test_zoom_out_of_one_is_off() -> None:
    assert augmentation.zoom_out_window(SEEDS[1], 1.0).numpy().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("vertical", [False, True])
def test_flips_move_pixels_and_boxes_alike(vertical: bool) -> None:
    image = np.zeros((100, 100, 3), np.float32)
    image[20:50, 10:40] = 255
    upside_down = 0
    for seed in SEEDS:
        flipped, boxes_xyxy = augmentation.flip(tf.constant(image), BOXES, seed, vertical)
        x1, y1, x2, y2 = np.rint(boxes_xyxy[0].numpy() * 100).astype(int)
        assert flipped.numpy()[y1:y2, x1:x2].min() == 255
        upside_down += y1 == 50
    assert (upside_down > 0) == vertical


def test_photometric_keeps_range_and_repeats_for_a_seed() -> None:
    image = tf.cast(_image(), tf.float32)
    results = [augmentation.photometric(image, seed).numpy() for seed in SEEDS[:10]]
    assert all(r.min() >= 0 and r.max() <= 255 for r in results)
    assert len({float(r.mean()) for r in results}) > 5
    np.testing.assert_array_equal(augmentation.photometric(image, SEEDS[0]), results[0])


def test_without_change_the_colour_matrix_is_one() -> None:
    np.testing.assert_allclose(augmentation.colour_matrix(1.0, 0.0), np.eye(3), atol=1e-5)


def test_colour_matrix_keeps_grey_and_drops_colour() -> None:
    grey = np.full(3, 90.0, np.float32)
    np.testing.assert_allclose(
        augmentation.colour_matrix(1.5, 18.0) @ grey[:, None], grey[:, None], rtol=1e-2
    )
    colourless = augmentation.colour_matrix(0.0, 0.0) @ np.array(
        [[200.0], [30.0], [60.0]], np.float32
    )
    assert np.ptp(colourless) < 1.0


@pytest.mark.parametrize("degrees", [-18.0, 10.0, 18.0])
def test_hue_turns_as_in_hsv(degrees: float) -> None:
    """YIQ's angle is HSV's hue roughly, for a colour of middling saturation."""
    colour = np.array([[180.0], [120.0], [140.0]], np.float32)
    turned = augmentation.colour_matrix(1.0, degrees) @ colour
    hue = [colorsys.rgb_to_hsv(*(x.ravel() / 255))[0] * 360 for x in (colour, turned.numpy())]
    assert (hue[1] - hue[0] + 180) % 360 - 180 == pytest.approx(degrees, abs=10.0)


@pytest.mark.parametrize(("width", "height"), [(400, 200), (200, 400), (300, 300)])
def test_a_letterboxed_window_is_a_square_that_holds_it(width: int, height: int) -> None:
    extent = np.array([width, height], np.float32)
    for window in ([0.0, 0.0, 1.0, 1.0], [0.2, 0.5, 0.4, 0.7], [-0.5, -0.3, 1.5, 1.7]):
        found = augmentation.letterbox_window(tf.constant(window), extent).numpy()
        pixels, was = found * np.tile(extent, 2), np.array(window) * np.tile(extent, 2)
        side = (was[2:] - was[:2]).max()
        np.testing.assert_allclose(pixels[2:] - pixels[:2], side, rtol=1e-5)
        np.testing.assert_allclose(pixels[2:] + pixels[:2], was[2:] + was[:2], atol=1e-2)


def test_an_object_keeps_its_shape_in_a_letterboxed_window() -> None:
    """40 by 20 pixels of 400 by 200, whatever the crop."""
    extent = tf.constant([400.0, 200.0])
    boxes_xyxy = tf.constant([[0.5, 0.5, 0.6, 0.6]])
    window = augmentation.letterbox_window(tf.constant([0.3, 0.1, 0.9, 0.8]), extent)
    moved, keep = augmentation.move_boxes(boxes_xyxy, window)
    assert keep.numpy().all()
    width, height = (moved[0, 2:] - moved[0, :2]).numpy()
    assert width / height == pytest.approx(2, rel=1e-4)
