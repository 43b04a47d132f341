"""Writes a split of annotated folders as one COCO JSON file. Needs no TensorFlow.

The neutral format: what `serving` measures a served model with, and what other tools read.

Out: `images` with file_name relative to the JSON file's folder, width and height in pixels;
`categories` in the order of the labels, ids from 1; `annotations` with bbox x, y, width, height in
pixels of the upright image, edges counted from 0. VOC's `difficult` becomes `iscrowd`.

Format: https://cocodataset.org/#format-data
"""

import collections
import dataclasses
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import disk
from training.data import annotations
from training.data.annotations import Annotation, Dataset
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.problems import DataError, describe_problems


@dataclasses.dataclass(frozen=True)
class CocoSettings(FolderSettings):
    """Write a split of annotated folders as one COCO JSON file; the images stay where they are.

    The formats are told apart by their layout.
    """

    output: Path
    """File to write, ending in .json; it must not exist."""
    _: dataclasses.KW_ONLY
    split: str = "val"
    """Name of the split."""


def write_coco(settings: CocoSettings) -> int:
    """Write the file and print a report.

    Raises:
        DataError: the folders or the file's name do not allow it.
    """
    folders = Folders(settings)
    _check_output(settings.output)
    dataset = _read_split(folders, settings)
    _write_split(dataset, settings.output)
    _report_split(dataset, settings.output)
    return 0


def _write_split(dataset: Dataset, output: Path) -> None:
    """Write a split; the file is there once it is whole.

    Raises:
        DataError: there is nothing to write, or the file is there already.
    """
    annotations.check_usable(dataset)
    output.parent.mkdir(parents=True, exist_ok=True)
    names = [_relative(item.image_path, output.parent) for item in dataset.annotations]
    text = json.dumps(to_coco(dataset.annotations, names, dataset.labels), indent=1)
    _check_output(output)
    disk.write_file(output, text)


def to_coco(
    items: Sequence[Annotation], names: Sequence[str], labels: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """COCO's three lists of images, each with its file_name."""
    ids = itertools.count(1)
    return {
        "images": [
            {"id": number, "file_name": name, "width": item.width, "height": item.height}
            for number, (name, item) in enumerate(zip(names, items, strict=True), 1)
        ],
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, 1)],
        "annotations": [
            {"id": next(ids), "image_id": number, **_object(item, row, labels)}
            for number, item in enumerate(items, 1)
            for row in range(len(item.labels))
        ],
    }


def _object(item: Annotation, row: int, labels: Sequence[str]) -> dict[str, Any]:
    x1, y1, x2, y2 = item.boxes_xyxy[row].tolist()
    return {
        "category_id": labels.index(item.labels[row]) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(item.difficult[row]),
    }


def _relative(path: Path, folder: Path) -> str:
    """Seen from a folder; links among the folders are followed, for `..` goes up behind them."""
    real = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 (both are text)
    return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()


def _read_split(folders: Folders, settings: CocoSettings) -> Dataset:
    folders.check_files()
    print("\n".join(folders.notes()))
    if settings.rename:
        folders.check_renames(folders.splits())
    return folders.read(settings.split, settings.labels or None)


def _check_output(output: Path) -> None:
    if output.exists():
        raise DataError(f"{output} exists already: choose another --output")
    if output.suffix != ".json":
        raise DataError(f"--output: expected a file that ends in .json, found {output}")


def _report_split(dataset: Dataset, output: Path) -> None:
    counts = collections.Counter(label for item in dataset.annotations for label in item.labels)
    boxes = ", ".join(f"{label} {counts[label]}" for label in dataset.labels)
    print(f"{output}: {dataset.split}, {len(dataset.annotations)} images; {boxes}")
    for line in describe_problems(dataset.problems):
        print(f"  {line}")
