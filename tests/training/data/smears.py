"""Small annotated folders, and what is read of them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.data import records, records_writer
from training.data.folders import Folders

FORMATS = ("voc", "coco", "yolo")
LABELS = ("RBC", "WBC", "Platelets")


def write_voc(
    path: Path, splits: dict[str, list[str]], names: dict[str, str] | None = None
) -> Path:
    """A small VOC folder; each id is an image of its own grey level, with one box.

    splits: empty for a folder without ImageSets.
    names: the class of each image's box; `cell` where none is given.
    """
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (path / part).mkdir(parents=True)
    for image_id in {image_id for ids in splits.values() for image_id in ids}:
        level = sum(image_id.encode()) % 251
        cv2.imwrite(str(path / f"JPEGImages/{image_id}.png"), np.full((9, 9, 3), level, np.uint8))
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>"
        name = (names or {}).get(image_id, "cell")
        text = f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        size = "<size><width>9</width><height>9</height></size>"
        xml = f"<annotation>{size}{text}</annotation>"
        (path / f"Annotations/{image_id}.xml").write_text(xml)
    for split, ids in splits.items():
        text = "".join(f"{image_id}\n" for image_id in ids)
        (path / f"ImageSets/Main/{split}.txt").write_text(text)
    return path


def ids(folders: Folders, split: str) -> list[str]:
    return [annotation.image_id for annotation in folders.read(split).annotations]


def kinds(folders: Folders, split: str) -> list[str]:
    return [problem.kind for problem in folders.read(split).problems]


def numbered(count: int) -> list[str]:
    return [f"photo-{number}" for number in range(count)]


def copy_image(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def write_records(folder: Path, output: Path, **changes: Any) -> Any:
    """`training records` of one folder."""
    fields = {"labels": LABELS} | changes
    return records_writer.write_records(records_writer.RecordsSettings((folder,), output, **fields))


def frames(clips: int, each: int) -> list[str]:
    """Ids of so many clips; each gives an image of its own in `write_voc`."""
    return [f"clip{n // each}_{chr(ord('A') + n)}" for n in range(clips * each)]


def records_of(folders: Any, output: Path, **options: Any) -> records.Manifest:
    options = {"labels": LABELS, "splits": ("train",)} | options
    assert (
        records_writer.write_records(
            records_writer.RecordsSettings(tuple(folders), output, **options)
        )
        == 0
    )
    return records.load_manifest(output, "".join(options["splits"][:1]) or "train")
