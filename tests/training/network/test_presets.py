"""Presets at other input sizes."""

import numpy as np
import pytest

from training.errors import TrainingError
from training.network import model
from training.network.default_boxes import boxes_per_map, default_boxes
from training.network.presets import (
    PRESETS,
    SSD300_VGG16,
    SSD_COMPACT,
    SSD_COMPACT_ATSS,
    SSD_LITE0,
    Preset,
    set_input_size,
)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_its_own_size_changes_nothing(preset: Preset) -> None:
    assert set_input_size(preset, preset.input_size) is preset


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        (SSD_LITE0, 160), (SSD_LITE0, 416), (SSD_LITE0, 512),
        (SSD_COMPACT, 288), (SSD_COMPACT, 416), (SSD_COMPACT, 1024), (SSD_COMPACT_ATSS, 384),
    ],
)  # fmt: skip
def test_the_networks_maps_follow(preset: Preset, size: int) -> None:
    sized = set_input_size(preset, size)
    network = model.build_network(sized, 2)  # refuses other maps than the preset's
    assert network.input_shape == (None, size, size, 3)
    assert network.get_layer("offsets").output.shape == (None, sum(boxes_per_map(sized)), 4)


def test_boxes_vote_only_where_it_was_measured_to_pay() -> None:
    assert {name for name, preset in PRESETS.items() if preset.voting_iou} == {"ssd_compact_atss"}


@pytest.mark.parametrize("size", [300, 384])
def test_compact_atss_has_one_square_a_cell(size: int) -> None:
    sized = set_input_size(SSD_COMPACT_ATSS, size)
    assert len(default_boxes(sized)) == sum(side**2 for side in sized.feature_maps)


@pytest.mark.parametrize("size", [320, 416, 512])
def test_a_box_of_lite0_stays_a_square_of_four_cells(size: int) -> None:
    found = default_boxes(set_input_size(SSD_LITE0, size))
    cells = [size / 8, size / 16, size / 32, np.ceil(size / 64), np.ceil(size / 128)]
    assert len(found) == sum(int(side) ** 2 for side in cells)
    np.testing.assert_allclose(found[0, 2:], 4 / cells[0], rtol=1e-6)
    np.testing.assert_allclose(found[-1, 2:], 4 / cells[-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("preset", "size", "message"),
    [
        (SSD_LITE0, 333, "ssd_lite0 takes multiples of 32 from 160 to 1024, found 333"),
        (SSD_LITE0, 128, "found 128"),
        (SSD_LITE0, 1056, "found 1056"),
        (SSD_LITE0, 0, "found 0"),
        (SSD_COMPACT, 256, "ssd_compact takes multiples of 32 from 288 to 1024, found 256"),
        (SSD300_VGG16, 512, "ssd300_vgg16 is the paper's network, for 300 alone"),
    ],
)
def test_a_size_that_a_preset_does_not_take(preset: Preset, size: int, message: str) -> None:
    with pytest.raises(TrainingError, match=f"--input-size: .*{message}"):
        set_input_size(preset, size)
