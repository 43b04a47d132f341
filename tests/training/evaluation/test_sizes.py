"""mAP by size is COCO's, in the photo's pixels or in the network's."""

import numpy as np
import pytest

from training.evaluation.score import Detected, Truth
from training.evaluation.sizes import scale_to_input, score_sizes, sizes_table

LABELS = ("cell",)
NAMES = ("mAP@0.5", "mAP@[.5:.95]")
SMALL, MEDIUM, LARGE = [0, 0, 20, 20], [100, 100, 160, 160], [200, 200, 400, 400]
BOXES = np.array([SMALL, MEDIUM, LARGE], np.float32)


def truth_of(difficult: tuple[bool, ...] = (False, False, False)) -> Truth:
    return Truth("a", 600, 400, BOXES, np.zeros(3, int), np.array(difficult))


def found(*places: int) -> Detected:
    count = len(places)
    return Detected("a", BOXES[list(places)], np.linspace(0.9, 0.8, count), np.zeros(count, int))


def test_each_size_has_its_own() -> None:
    sizes = score_sizes([truth_of()], [found(1, 2)], LABELS)
    assert {name: (each.objects, each.map50) for name, each in sizes.items()} == {
        "small": (1, 0),
        "medium": (1, pytest.approx(1)),
        "large": (1, pytest.approx(1)),
    }


def test_a_size_without_objects_is_not_there() -> None:
    sizes = score_sizes([truth_of((True, False, False))], [found(0, 1, 2)], LABELS)
    assert list(sizes) == ["medium", "large"]
    nothing = Truth("a", 9, 9, BOXES[:0], np.zeros(0, int), np.zeros(0, bool))
    assert score_sizes([nothing], [found()], LABELS) == {}


@pytest.mark.parametrize(
    ("resize", "counts"),
    [
        ("stretch", {"small": 1, "medium": 1, "large": 1}),  # the second: 30 x 45
        ("letterbox", {"small": 2, "large": 1}),  # 30 x 30
    ],
)
def test_what_the_network_sees(resize: str, counts: dict[str, int]) -> None:
    truth = [truth_of()]
    args = (300, resize)
    seen = scale_to_input(truth, truth, *args)  # type: ignore[arg-type]
    boxes = scale_to_input(truth, [found(0, 1, 2)], *args)  # type: ignore[arg-type]
    sizes = score_sizes(seen, boxes, LABELS)
    assert {name: each.objects for name, each in sizes.items()} == counts
    assert all(each.map == pytest.approx(1) for each in sizes.values())


def test_as_a_table() -> None:
    table = sizes_table(score_sizes([truth_of()], [found(1, 2)], LABELS), "in the photo", NAMES)
    lines = table.splitlines()
    assert lines[0] == "in the photo              objects  mAP@0.5  mAP@[.5:.95]"
    assert lines[1] == "small, below 32x32              1    0.000         0.000"
    assert lines[2].startswith("medium, 32x32 to 96x96 ")
    assert lines[3].startswith("large, from 96x96 on ")
