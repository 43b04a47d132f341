"""Rendered smears: cells within the image, the same again from a seed, and a sound VOC folder."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from tests.conftest import PROJECT
from training.data.formats import voc
from training.data.problems import DataError
from training.render import microscope, smears, stains

SAMPLES = PROJECT / "samples"
SAMPLES_SEED = 11  # as samples/README.md has it


@pytest.mark.parametrize("size", [(640, 480), (64, 64), (97, 301)])
def test_render(size: tuple[int, int]) -> None:
    image_bgr, boxes_xyxy, classes = smears.render_photo(np.random.default_rng(1), size)
    assert image_bgr.shape == (size[1], size[0], 3)
    assert image_bgr.dtype == np.uint8
    assert boxes_xyxy.dtype == np.float32
    assert boxes_xyxy.shape == (len(classes), 4)
    assert (boxes_xyxy[:, :2] >= 0).all()
    assert (boxes_xyxy[:, 2:] <= size).all()
    assert (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= 2).all()
    assert set(classes.tolist()) <= {smears.RBC, smears.WBC, smears.PLATELET}


@pytest.mark.parametrize(
    ("kind", "radius"), [(smears.RBC, 45.0), (smears.WBC, 90.0), (smears.PLATELET, 10.0)]
)
def test_box_fits_its_cell(kind: int, radius: float) -> None:
    """A lone cell: with the usual margins hardly anything of it is outside its box."""
    cell = smears.Cell(150.0, 120.0, radius, kind)
    style = stains.stain(np.random.default_rng(1))
    patch, mask = stains.DRAWINGS[kind](np.random.default_rng(2), cell.radius, style)
    density = np.zeros((240, 300, 3), np.float32)
    smears.add_patch(density, patch, cell, style)
    x1, y1, x2, y2 = smears.visible_box(mask, cell, density.shape, np.zeros(4))
    assert 1.6 * radius < x2 - x1 < 2.6 * radius
    assert 1.6 * radius < y2 - y1 < 2.6 * radius
    margins = np.full(4, smears.MARGINS[kind][0])
    x1, y1, x2, y2 = smears.visible_box(mask, cell, density.shape, margins)
    assert density[y1:y2, x1:x2, 1].sum() > 0.9 * density[..., 1].sum()


def test_box_ends_at_the_border() -> None:
    mask = np.ones((41, 41))
    cell = smears.Cell(2.0, 95.0, 20.0, smears.RBC)
    assert smears.visible_box(mask, cell, (100, 200), np.full(4, 7.0)) == [0, 68, 30, 100]


def test_cells_keep_their_distance() -> None:
    for seed in range(5):
        cells = smears.place_cells(np.random.default_rng(seed), (640, 480))
        assert all(smears.have_room(a, b) for i, a in enumerate(cells) for b in cells[:i]), (
            f"seed {seed}"
        )


@pytest.fixture(scope="module")
def layouts() -> list[list[smears.Cell]]:
    return [
        smears.place_cells(np.random.default_rng([8, number]), (640, 480)) for number in range(150)
    ]


# The boxes of the 205 photos of BCCD's `train` split that no border cuts: 10th percentile,
# median and 90th percentile of the square root of their area.
REAL_SIDES = {
    smears.RBC: (91, 105, 118),
    smears.WBC: (126, 198, 236),
    smears.PLATELET: (34, 40, 50),
}


@pytest.mark.parametrize("kind", list(REAL_SIDES))
def test_boxes_are_as_large_as_in_photos(layouts: list[list[smears.Cell]], kind: int) -> None:
    margin = smears.MARGINS[kind][0]
    sides = [2 * (cell.radius + margin) for cells in layouts for cell in cells if cell.kind == kind]
    np.testing.assert_allclose(np.percentile(sides, (10, 50, 90)), REAL_SIDES[kind], rtol=0.15)


def test_counts_are_those_of_photos(layouts: list[list[smears.Cell]]) -> None:
    """Photos show about 20 red cells, a white one in nearly each, and 0 to 6 platelets."""
    counts = np.array([np.bincount([c.kind for c in cells], minlength=3) for cells in layouts])
    red, white, platelets = counts.mean(axis=0)
    assert 14 < red < 24
    assert 0.8 < white < 1.2
    assert 0.8 < platelets < 3
    assert counts.max(axis=0)[smears.PLATELET] <= 8
    assert (counts[:, smears.PLATELET] == 0).any()


def test_light_and_noise_are_those_of_photos() -> None:
    """The empty slide is (196, 201, 199) in photos, the median; its finest noise deviates by 1."""
    empty, noise = [], []
    for number in range(12):
        image_bgr, _, _ = smears.render_photo(np.random.default_rng([8, number]))
        decoded = cv2.imdecode(np.frombuffer(microscope.encode(image_bgr), np.uint8), 1)
        green = decoded[..., 1].astype(np.float32)
        slide = green > np.percentile(green, 92) - 14
        empty.append(np.median(decoded[slide], axis=0))
        inner = cv2.erode(slide.astype(np.uint8), np.ones((9, 9))) > 0
        noise.append((green - cv2.GaussianBlur(green, (0, 0), 2))[inner].std())
    np.testing.assert_allclose(np.median(empty, axis=0), microscope.BACKGROUND_BGR, atol=4)
    assert 0.6 < np.median(noise) < 1.6


def render_folder(path: Path, **changes: Any) -> Any:
    fields = {"count": 5, "width": 160, "height": 120, "seed": 3} | changes
    return smears.render_smears(smears.RenderSettings(path, **fields))


def test_folder_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("erythrocyte", "weiße Zelle", "<&>")
    assert render_folder(tmp_path / "voc", labels=labels) == 0
    folder = voc.Folder(tmp_path / "voc")
    assert folder.splits() == ["train", "trainval", "val"]
    dataset = folder.read("trainval", labels)
    assert dataset.problems == ()
    assert len(dataset.annotations) == 5
    assert [len(folder.image_ids(split)) for split in ("train", "val")] == [4, 1]
    _, boxes_xyxy, classes = smears.render_photo(np.random.default_rng([3, 0]), (160, 120))
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
def test_settings_are_checked(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        render_folder(tmp_path / "voc", **changes)
    assert not (tmp_path / "voc").exists()


def test_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="not empty; name a new folder"):
        render_folder(tmp_path)
    with pytest.raises(NotADirectoryError):
        render_folder(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_samples_are_what_the_renderer_draws(number: int) -> None:
    """Cell for cell; the JPEG itself may differ by a rounding between processors."""
    path = SAMPLES / f"smear-{number}.jpg"
    assert path.stat().st_size < 80_000
    rng = np.random.default_rng([SAMPLES_SEED, number - 1])
    image_bgr, boxes_xyxy, classes = smears.render_photo(rng)
    root = ElementTree.parse(path.with_suffix(".xml")).getroot()
    corners = [[int(edge.text or "") for edge in box] for box in root.iter("bndbox")]
    np.testing.assert_allclose(boxes_xyxy + np.array([1, 1, 0, 0]), corners, atol=1)
    names = [smears.RenderSettings.labels[kind] for kind in classes]
    assert names == [name.text for name in root.iter("name")]
    assert np.abs(cv2.imread(str(path)).astype(int) - image_bgr).mean() < 4
