"""Rendered smears in three formats, and what they are written to."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.data.smears import LABELS
from training.data.formats import voc
from training.render import smears


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smears as VOC, 5 in train and 1 in val, and beside it the same as COCO and as YOLO."""
    path = tmp_path_factory.mktemp("rendered")
    assert (
        smears.render_smears(smears.RenderSettings(path / "voc", count=6, width=160, height=120))
        == 0
    )
    for split in ("train", "val"):
        found = voc.Folder(path / "voc").read(split, LABELS).annotations
        write_coco(path / "coco", split, found)
        write_yolo(path / "yolo", split, found)
    return path


def write_coco(path: Path, split: str, found: Any) -> None:
    """As COCO lays it out, with ids that are not places."""
    images = [
        {"id": 7 * n, "file_name": a.image_path.name, "width": a.width, "height": a.height}
        for n, a in enumerate(found, 1)
    ]
    objects = [
        {"image_id": 7 * n, "category_id": 10 * LABELS.index(label), "bbox": [x, y, v - x, w - y]}
        for n, a in enumerate(found, 1)
        for label, (x, y, v, w) in zip(a.labels, a.boxes_xyxy.tolist(), strict=True)
    ]
    categories = [{"id": 10 * n, "name": label} for n, label in enumerate(LABELS)]
    content = {"images": images, "annotations": objects, "categories": categories}
    for part in ("annotations", f"{split}2017"):
        (path / part).mkdir(parents=True, exist_ok=True)
    (path / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    for a in found:
        shutil.copy(a.image_path, path / f"{split}2017")


def write_yolo(path: Path, split: str, found: Any) -> None:
    """As Roboflow lays it out."""
    folder = path / {"val": "valid"}.get(split, split)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    (path / "data.yaml").write_text(f"train: ../train/images\nnames: [{', '.join(LABELS)}]\n")
    for a in found:
        shutil.copy(a.image_path, folder / "images")
        low, high = a.boxes_xyxy[:, :2], a.boxes_xyxy[:, 2:]
        rows = np.hstack([(low + high) / 2, high - low]) / [160, 120, 160, 120]
        lines = [
            f"{LABELS.index(label)} {' '.join(f'{value:.6f}' for value in row)}\n"
            for label, row in zip(a.labels, rows, strict=True)
        ]
        (folder / f"labels/{a.image_id}.txt").write_text("".join(lines))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture(scope="session")
def voc_folder(rendered: Path) -> Path:
    """The smears as Pascal VOC: 5 images in train, 1 in val."""
    return rendered / "voc"


@pytest.fixture
def folder(voc_folder: Path, tmp_path: Path) -> Path:
    """A copy to write flaws into."""
    return Path(shutil.copytree(voc_folder, tmp_path / "voc"))
