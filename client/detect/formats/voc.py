"""Detections as a Pascal VOC folder: Annotations/ID.xml and JPEGImages/ID.jpg.

VOC counts pixels from 1 and includes the last one, in whole numbers. `confidence`, which VOC does
not have in annotations, holds the score.

Format: "The PASCAL VOC2012 Challenge Development Kit", annotation of bounding boxes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from client.detect.formats.dataset import add_photo, names_of, usable
from client.detect.journal import Entry


def write(entries: Iterable[Entry], folder: Path) -> None:
    """Write the annotations of all photos with a result, and put the photos beside them."""
    for part in ("Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    names = names_of(entries)
    for entry in usable(entries):
        name = names[entry["file"]]
        add_photo(entry["file"], folder / "JPEGImages" / name)
        xml = ElementTree.tostring(_annotation(name, entry), encoding="utf-8")
        (folder / "Annotations" / f"{Path(name).stem}.xml").write_bytes(xml + b"\n")


def _annotation(name: str, entry: Entry) -> Element:
    root = Element("annotation")
    _append(root, {"folder": "JPEGImages", "filename": name})
    size = {"width": entry["width"], "height": entry["height"], "depth": 3}
    _append(SubElement(root, "size"), size)
    for found in entry["detections"]:
        element = SubElement(root, "object")
        _append(element, {"name": found["label"], "confidence": f"{found['score']:.4f}"})
        _append(element, {"truncated": 0, "difficult": 0})
        _append(SubElement(element, "bndbox"), _bndbox(found["box"], entry))
    ElementTree.indent(root)
    return root


def _bndbox(box: Mapping[str, float], entry: Entry) -> dict[str, int]:
    xmin, xmax = _pixels(box["x1"], box["x2"], entry["width"])
    ymin, ymax = _pixels(box["y1"], box["y2"], entry["height"])
    return {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}


def _pixels(start: float, end: float, size: int) -> tuple[int, int]:
    """Return the first and the last pixel of an interval of edges, two pixels at least.

    Readers take a box of one pixel, whose first and last are the same, for one without an area.
    """
    first = max(0, min(round(start), size - 2))
    return first + 1, max(round(end), first + 2)


def _append(element: Element, texts: Mapping[str, Any]) -> None:
    for tag, text in texts.items():
        SubElement(element, tag).text = str(text)
