"""Rendered smears: cells within the image, the same again from a seed, and a sound VOC folder."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from training import smears, voc

SAMPLES = Path(__file__).parents[2] / "samples"
SAMPLES_SEED = 11  # as samples/README.md has it


@pytest.mark.parametrize("size", [(640, 480), (64, 64), (97, 301)])
def test_render(size: tuple[int, int]) -> None:
    image_bgr, boxes_xyxy, classes = smears.render(np.random.default_rng(1), size)
    assert image_bgr.shape == (size[1], size[0], 3)
    assert image_bgr.dtype == np.uint8
    assert boxes_xyxy.dtype == np.float32
    assert boxes_xyxy.shape == (len(classes), 4)
    assert (boxes_xyxy[:, :2] >= 0).all()
    assert (boxes_xyxy[:, 2:] <= size).all()
    assert (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= 2).all()
    assert set(classes.tolist()) <= {smears.RBC, smears.WBC, smears.PLATELET}


def test_box_fits_its_cell() -> None:
    """A lone white cell: inside the box it is darker than the slide, outside it is not."""
    cell = smears.Cell(100.0, 80.0, 30.0, smears.WBC)
    patch, mask = smears.STAINS[cell.kind](np.random.default_rng(2), cell.radius)
    density = np.zeros((160, 200, 3), np.float32)
    smears._add(density, patch, cell)
    x1, y1, x2, y2 = smears._box(mask, cell, density.shape)
    assert 50 < x2 - x1 < 75
    assert 50 < y2 - y1 < 75
    inside = density[y1:y2, x1:x2].sum()
    assert inside > 0.97 * density.sum()


def test_cells_keep_their_distance() -> None:
    for seed in range(5):
        cells = smears.place(np.random.default_rng(seed), (640, 480))
        assert all(smears._have_room(a, b) for i, a in enumerate(cells) for b in cells[:i]), (
            f"seed {seed}"
        )


def test_class_names_stand_for_the_right_cells() -> None:
    """White cells are the largest, platelets the smallest, and every kind occurs."""
    boxes, kinds = [], []
    for seed in range(6):
        _, boxes_xyxy, classes = smears.render(np.random.default_rng(seed))
        boxes.append(boxes_xyxy)
        kinds.append(classes)
    boxes_xyxy, classes = np.concatenate(boxes), np.concatenate(kinds)
    widths = boxes_xyxy[:, 2] - boxes_xyxy[:, 0]
    platelet, red, white = (
        np.median(widths[classes == kind]) for kind in (smears.PLATELET, smears.RBC, smears.WBC)
    )
    assert 20 < platelet < 60 < red < 130 < white < 260


def render_folder(path: Path, **changes: Any) -> Any:
    fields = {"count": 5, "width": 160, "height": 120, "seed": 3} | changes
    return smears.run(smears.RenderSettings(path, **fields))


def test_folder_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("erythrocyte", "weiße Zelle", "<&>")
    assert render_folder(tmp_path / "voc", labels=labels) == 0
    folder = voc.Folder(tmp_path / "voc")
    assert folder.splits() == ["train", "trainval", "val"]
    dataset = folder.read("trainval", labels)
    assert dataset.problems == ()
    assert len(dataset.annotations) == 5
    assert [len(folder.image_ids(split)) for split in ("train", "val")] == [4, 1]
    _, boxes_xyxy, classes = smears.render(np.random.default_rng([3, 0]), (160, 120))
    np.testing.assert_array_equal(dataset.annotations[0].boxes_xyxy, boxes_xyxy)
    assert dataset.annotations[0].labels == tuple(labels[kind] for kind in classes)
    assert "5 images" in capsys.readouterr().out


def test_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        render_folder(tmp_path / name, count=2, seed=seed)
    a, b, c = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("smear-*")}
        for name in "abc"
    )
    assert len(a) == 4
    assert a == b
    assert not set(a.values()) & set(c.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 1}, "--count: expected 2 or more, found 1"),
        ({"width": 10}, "--width: expected 64 or more, found 10"),
        ({"seed": -1}, "--seed: expected 0 or more, found -1"),
        ({"val": 1.5}, "--val: expected a share of 0 to 1, found 1.5"),
        ({"labels": ("a", "a", "b")}, "different, printable class names"),
    ],
)
def test_settings_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: Any, message: str
) -> None:
    assert render_folder(tmp_path / "voc", **changes) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "voc").exists()


def test_folder_that_is_not_empty_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").touch()
    assert render_folder(tmp_path) == 1
    assert "not empty; name a new folder" in capsys.readouterr().err
    assert render_folder(tmp_path / "mine.txt") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_samples_are_what_the_renderer_draws(number: int) -> None:
    """Cell for cell; the JPEG itself may differ by a rounding between processors."""
    path = SAMPLES / f"smear-{number}.jpg"
    assert path.stat().st_size < 80_000
    rng = np.random.default_rng([SAMPLES_SEED, number - 1])
    image_bgr, boxes_xyxy, classes = smears.render(rng)
    root = ElementTree.parse(path.with_suffix(".xml")).getroot()
    corners = [[int(edge.text or "") for edge in box] for box in root.iter("bndbox")]
    np.testing.assert_allclose(boxes_xyxy + np.array([1, 1, 0, 0]), corners, atol=1)
    names = [smears.RenderSettings.labels[kind] for kind in classes]
    assert names == [name.text for name in root.iter("name")]
    shipped = cv2.imread(str(path)).astype(int)
    assert np.abs(shipped - image_bgr).mean() < 3
