"""Tiles in records: the windows that the client asks for, and of their boxes what it keeps."""

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Box
from client import tiles as client_tiles
from tests.training.data.smears import write_records
from training.data import records, tiles
from training.data.annotations import Annotation
from training.data.formats.voc_writer import encode_voc
from training.data.problems import DataError
from training.errors import TrainingError
from training.settings import TrainSettings
from training.train import train_detector

WIDTH, HEIGHT, TILE = 1500, 1100, 640
SIDES = st.integers(1, 3000)


def annotate(
    *boxes_xyxy: tuple[float, ...], width: int = WIDTH, height: int = HEIGHT
) -> Annotation:
    count = len(boxes_xyxy)
    boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
    flags = np.zeros(count, bool)
    return Annotation(
        "slide", Path("slide.png"), width, height, boxes, ("RBC",) * count, flags, flags
    )


@given(SIDES, SIDES, st.integers(300, 1000))
def test_windows_are_the_clients(width: int, height: int, tile: int) -> None:
    theirs = client_tiles.windows(width, height, tile, tiles.OVERLAP)
    assert [*map(tuple, tiles.windows(width, height, tile))] == [*map(tuple, theirs)]


def test_a_photo_no_larger_than_a_tile_stays_as_it_is() -> None:
    empty, small = annotate(), annotate((0, 0, 9, 9), width=TILE, height=TILE)
    [(window, found)] = tiles.cut_annotation(small, TILE)
    assert window == (0, 0, TILE, TILE)
    assert found is small
    assert all(not part.labels for _, part in tiles.cut_annotation(empty, TILE))


@given(st.data())
def test_what_the_client_drops_is_difficult_and_all_else_is_to_be_found(data: Any) -> None:
    x1, y1 = data.draw(st.integers(0, WIDTH - 2)), data.draw(st.integers(0, HEIGHT - 2))
    box = (x1, y1, data.draw(st.integers(x1 + 1, WIDTH)), data.draw(st.integers(y1 + 1, HEIGHT)))
    (_, whole), *parts = tiles.cut_annotation(annotate(box), TILE)
    longer = client_tiles.longer_side(Box(*box))
    found = [longer > (tiles.OVERLAP - 2 * tiles.EDGE) * TILE]
    assert [not d for d in whole.difficult] == found
    for window, part in parts:
        x, y, width, height = window
        seen_xyxy = np.clip(np.array(box) - (x, y, x, y), 0, (width, height, width, height))
        if (seen_xyxy[2:] - seen_xyxy[:2] < 1).any():
            assert not part.labels
            continue
        np.testing.assert_array_equal(part.boxes_xyxy, [seen_xyxy])
        theirs = client_tiles.Window(*window)
        dropped = client_tiles.is_cut(Box(*box), theirs, WIDTH, HEIGHT)
        assert part.difficult.tolist() == [dropped]
        assert part.truncated.tolist() == [(seen_xyxy != np.array(box) - (x, y, x, y)).any()]
        found.append(not dropped)
    assert any(found)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A photo of 1500x1100 with a cell that is whole in two tiles, and a small photo."""
    folder = tmp_path / "slides"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (110, 150, 3), np.uint8)
    large = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for name, photo in {"large": large, "small": noise}.items():
        cv2.imwrite(str(folder / f"JPEGImages/{name}.png"), photo)
        box = np.array([[460, 40, 520, 100] if name == "large" else [5, 5, 50, 60]])
        xml = encode_voc(f"{name}.png", photo.shape[:2], box, ["RBC"])
        (folder / f"Annotations/{name}.xml").write_bytes(xml)
    (folder / "ImageSets/Main/train.txt").write_text("large\nsmall\n")
    return folder


def test_records_hold_the_tiles_as_the_client_sends_them(
    slides: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write_records(slides, output, labels=("RBC",), val=0, tile=TILE) == 0
    manifest = records.load_manifest(output, "train")
    windows = tiles.windows(WIDTH, HEIGHT, TILE)
    assert (manifest.tile, manifest.count) == (TILE, len(windows) + 1)
    assert len(manifest.photos) == manifest.count  # a photo a tile
    assert len(set(manifest.photos)) == 2
    told = capsys.readouterr().out
    assert "14 images in 2 files; RBC 2\n  13 of them are 1 photos in tiles of 640 pixels" in told
    assert "and whole; 11 have no object to find\n" in told
    images = {e["image_id"].decode(): e for e in records.dataset(manifest).as_numpy_iterator()}
    photo = cv2.imread(str(slides / "JPEGImages/large.png"))
    for window in windows:
        x, y, width, _ = window
        name = "large" if width == WIDTH else f"large@{x},{y}"
        seen = cv2.imdecode(np.frombuffer(images[name]["encoded"], np.uint8), cv2.IMREAD_COLOR)
        sent = client_tiles.cut_window(photo, client_tiles.Window(*window), TILE)
        theirs = cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(seen, theirs)
        assert (images[name]["width"], images[name]["height"]) == seen.shape[1::-1]
    assert images["large"]["difficult"].tolist() == [True]
    np.testing.assert_allclose(
        images["large@287,0"]["boxes_xyxy"] * TILE, [[173, 40, 233, 100]], atol=1e-3
    )
    assert images["small"]["difficult"].tolist() == [False]


def test_photos_that_are_all_small_are_told_and_a_larger_input_is_refused(
    voc_folder: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(voc_folder, output, tile=300)
    assert capsys.readouterr().out.count("no photo is larger than 300 pixels: none was cut") == 2
    with pytest.raises(
        DataError, match="tiles of 300 pixels are smaller than the network's input, 320"
    ):
        train_detector(TrainSettings(output, tmp_path / "run", preset="ssd_lite0"))
    assert issubclass(DataError, TrainingError)
    assert not (tmp_path / "run").exists()


def test_tiles_of_one_photo_have_ids_of_their_own() -> None:
    parts = [part for _, part in tiles.cut_annotation(annotate(), TILE)]
    assert not [a for a, b in itertools.combinations(parts, 2) if a.image_id == b.image_id]
