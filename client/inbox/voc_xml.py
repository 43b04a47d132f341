"""Pascal VOC's annotation of a photo.

VOC counts pixels from 1 and includes the last one, in whole numbers. `confidence`, which VOC does
not have in annotations, holds the score.

Format: "The PASCAL VOC2012 Challenge Development Kit", annotation of bounding boxes.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

SMALLEST_SIDE = 2  # pixels; with one, xmin and xmax are equal, which readers take for no area


def voc_xml(
    name: str, width: int, height: int, objects: Iterable[Mapping[str, Any]], **more: Any
) -> bytes:
    """The annotation of one photo.

    Args:
        name: of the photo's file.
        width: of the upright photo, pixels.
        height: likewise.
        objects: the tags of each, with their texts or with tags inside; one is `bndbox`.
        more: further tags of the annotation.
    """
    size = {"width": width, "height": height, "depth": 3}
    root = Element("annotation")
    _append(root, {"folder": "JPEGImages", "filename": name, **more, "size": size})
    for each in objects:
        _append(root, {"object": each})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def bndbox(x1: int, y1: int, x2: int, y2: int) -> dict[str, int]:
    """A box of whole pixels, its edges from 0, as VOC counts."""
    return {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}


def whole_pixels(start: float, end: float, size: int) -> tuple[int, int]:
    """Both edges of a box along a side of the photo in whole pixels, SMALLEST_SIDE apart or more.

    Args:
        start: the first edge, 0 to size.
        end: the second one.
        size: of the photo along that side, SMALLEST_SIDE or more.
    """
    first = max(0, min(round(start), size - SMALLEST_SIDE))
    return first, min(max(round(end), first + SMALLEST_SIDE), size)


def detected_object(found: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """A detection as `voc_xml` takes it.

    Args:
        found: of `Result.to_dict`.
        entry: with the "width" and "height" of its photo.
    """
    box = found["box"]
    x1, x2 = whole_pixels(box["x1"], box["x2"], entry["width"])
    y1, y2 = whole_pixels(box["y1"], box["y2"], entry["height"])
    return {
        "name": found["label"],
        "confidence": f"{found['score']:.4f}",
        "truncated": 0,
        "difficult": 0,
        "bndbox": bndbox(x1, y1, x2, y2),
    }


def _append(element: Element, tags: Mapping[str, Any]) -> None:
    for tag, content in tags.items():
        child = SubElement(element, tag)
        if isinstance(content, Mapping):
            _append(child, content)
        else:
            child.text = str(content)
