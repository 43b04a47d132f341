"""Detections as a YOLO folder: data.yaml, images/a.jpg and labels/a.txt.

A line is `class cx cy width height`, 0..1 of the upright photo. There is no place for the score:
a sixth number would be read as something else.

Format: https://docs.ultralytics.com/datasets/detect/
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from client.detect.formats.dataset import (
    add_photo,
    labels_of,
    names_of,
    usable,
)
from client.detect.journal import Entry


def write_yolo(entries: Iterable[Entry], folder: Path) -> None:
    """Write the labels of all photos with a result, and put the photos beside them."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    (folder / "data.yaml").write_text(_yaml(labels_of(entries)), encoding="utf-8")
    names = names_of(entries)
    for entry in usable(entries):
        name = names[entry["file"]]
        add_photo(entry["file"], folder / "images" / name)
        lines = "".join(f"{_line(found, entry)}\n" for found in entry["detections"])
        (folder / "labels" / f"{Path(name).stem}.txt").write_text(lines, encoding="utf-8")


def _yaml(labels: Mapping[int, str]) -> str:
    """Return data.yaml's text. A class that was never found has a name too: none may be missing."""
    names = [labels.get(n, f"class {n}") for n in range(max(labels, default=-1) + 1)]
    return f"names: {json.dumps(names, ensure_ascii=False)}\n"  # a JSON text is a YAML text


def _line(found: Mapping[str, Any], entry: Entry) -> str:
    box, width, height = found["box"], entry["width"], entry["height"]
    numbers = (
        (box["x1"] + box["x2"]) / 2 / width,
        (box["y1"] + box["y2"]) / 2 / height,
        (box["x2"] - box["x1"]) / width,
        (box["y2"] - box["y1"]) / height,
    )
    return " ".join([str(found["class_id"]), *(f"{number:.6f}" for number in numbers)])
