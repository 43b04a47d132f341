import numpy as np
import pytest

from training.network.default_boxes import (
    boxes_per_cell,
    boxes_per_map,
    default_boxes,
    describe_default_boxes,
)
from training.network.presets import SSD300_VGG16, SSD_COMPACT, SSD_LITE0, Preset


@pytest.mark.parametrize("preset", [SSD_COMPACT, SSD300_VGG16], ids=lambda preset: preset.name)
def test_counts_are_ssd300s(preset: Preset) -> None:
    assert default_boxes(preset).shape == (8732, 4)
    assert boxes_per_cell(preset) == (4, 6, 6, 6, 4, 4)


def test_lite0_has_one_square_a_cell() -> None:
    """Four cells wide on each of the five maps."""
    assert boxes_per_map(SSD_LITE0) == (1600, 400, 100, 25, 9)
    np.testing.assert_allclose(default_boxes(SSD_LITE0)[0], [0.0125, 0.0125, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(default_boxes(SSD_LITE0)[-1, 2:], [4 / 3, 4 / 3], rtol=1e-6)


def test_ssd300s_first_cell() -> None:
    """Figure 1 and section 2.2 with s = 0.1, s' = sqrt(0.1 * 0.2): sides in cxcywh."""
    first = default_boxes(SSD300_VGG16)[:4]
    centre = 0.5 / 38
    root, middle = np.sqrt(2), np.sqrt(0.1 * 0.2)
    wanted = [(0.1, 0.1), (middle, middle), (0.1 * root, 0.1 / root), (0.1 / root, 0.1 * root)]
    np.testing.assert_allclose(first[:, :2], centre, rtol=1e-6)
    np.testing.assert_allclose(first[:, 2:], wanted, rtol=1e-6)


def test_description_is_enough_to_make_them() -> None:
    """What a card says, in another language, must give the same boxes."""
    count = 0
    for entry, side in zip(
        describe_default_boxes(SSD300_VGG16), (38, 19, 10, 5, 3, 1), strict=True
    ):
        assert entry["side"] == side
        sizes = np.array(entry["widths_heights"])
        cell = default_boxes(SSD300_VGG16)[count : count + len(sizes), 2:]
        np.testing.assert_allclose(cell, sizes, rtol=1e-6)
        count += side * side * len(sizes)
    assert count == 8732


def test_order_is_row_then_column() -> None:
    """A box of the second column comes before one of the second row: as a reshaped output."""
    boxes = default_boxes(SSD300_VGG16)
    np.testing.assert_allclose(boxes[4, :2], [1.5 / 38, 0.5 / 38], rtol=1e-6)
    np.testing.assert_allclose(boxes[4 * 38, :2], [0.5 / 38, 1.5 / 38], rtol=1e-6)


def test_last_box_covers_the_image() -> None:
    assert default_boxes(SSD300_VGG16)[-4].tolist() == pytest.approx([0.5, 0.5, 0.9, 0.9])
