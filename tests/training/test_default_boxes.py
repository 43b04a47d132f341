import numpy as np
import pytest

from training.default_boxes import boxes_per_cell, default_boxes
from training.presets import PRESETS, SSD300_VGG16, Preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_counts_are_ssd300s(preset: Preset) -> None:
    assert default_boxes(preset).shape == (8732, 4)
    assert boxes_per_cell(preset) == (4, 6, 6, 6, 4, 4)


def test_ssd300s_first_cell() -> None:
    """Figure 1 and section 2.2 with s = 0.1, s' = sqrt(0.1 * 0.2): sides in cxcywh."""
    first = default_boxes(SSD300_VGG16)[:4]
    centre = 0.5 / 38
    root, middle = np.sqrt(2), np.sqrt(0.1 * 0.2)
    wanted = [(0.1, 0.1), (middle, middle), (0.1 * root, 0.1 / root), (0.1 / root, 0.1 * root)]
    np.testing.assert_allclose(first[:, :2], centre, rtol=1e-6)
    np.testing.assert_allclose(first[:, 2:], wanted, rtol=1e-6)


def test_order_is_row_then_column() -> None:
    """A box of the second column comes before one of the second row: as a reshaped output."""
    boxes = default_boxes(SSD300_VGG16)
    np.testing.assert_allclose(boxes[4, :2], [1.5 / 38, 0.5 / 38], rtol=1e-6)
    np.testing.assert_allclose(boxes[4 * 38, :2], [0.5 / 38, 1.5 / 38], rtol=1e-6)


def test_last_box_covers_the_image() -> None:
    assert default_boxes(SSD300_VGG16)[-4].tolist() == pytest.approx([0.5, 0.5, 0.9, 0.9])
