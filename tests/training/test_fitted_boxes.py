"""The file of fitted default boxes: what is none is refused."""

import json
from pathlib import Path

import pytest

from training.errors import TrainingError
from training.fitted_boxes import load_fitted
from training.network.presets import SSD_COMPACT


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "no default boxes"),
        ({"preset": "ssd_compact"}, "no default boxes"),
        ({"preset": "ssd_compact", "box_shapes": [[], [], [], [], [], []]}, "no default boxes"),
        ({"preset": "ssd_compact", "box_shapes": [[[0.1, -1]]] * 6}, "no default boxes"),
        ({"preset": "ssd_compact", "box_shapes": [[[0.1, 0.1]]]}, "not for ssd_compact"),
        ({"preset": "ssd300_vgg16", "box_shapes": [[[0.1, 0.1]]] * 6}, "for the preset ssd300"),
    ],
)
def test_a_file_that_is_none(document: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    with pytest.raises(TrainingError, match=message):
        load_fitted(path, SSD_COMPACT)


def test_a_file_of_before_there_were_input_sizes(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"preset": "ssd_compact", "box_shapes": [[[0.1, 0.2]]] * 6}))
    assert load_fitted(path, SSD_COMPACT).box_shapes == (((0.1, 0.2),),) * 6
