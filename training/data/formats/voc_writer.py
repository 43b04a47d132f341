"""Writes a Pascal VOC annotation, as voc_xml.py reads it."""

from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np


def encode_voc(
    filename: str,
    shape: tuple[int, ...],
    boxes_xyxy: np.ndarray,
    labels: Sequence[str],
    scores: Sequence[float] | np.ndarray = (),
) -> bytes:
    """A Pascal VOC annotation.

    shape: height and width of the image, pixels.
    boxes_xyxy: [N, 4] whole pixels, continuous edges from 0; VOC counts from 1, last included.
    scores: of the boxes, 0 to 1, where a model drew them; <confidence>, which VOC does not have.
    """
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = filename
    _append(root, "size", {"width": shape[1], "height": shape[0], "depth": 3})
    for place, (x1, y1, x2, y2) in enumerate(boxes_xyxy.astype(int).tolist()):
        element = _append(root, "object", {"name": labels[place], "difficult": 0, "truncated": 0})
        _append(element, "bndbox", {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2})
        if len(scores):
            ElementTree.SubElement(element, "confidence").text = f"{scores[place]:.4f}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8")


def _append(parent: ElementTree.Element, tag: str, fields: dict) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    for name, value in fields.items():
        ElementTree.SubElement(element, name).text = str(value)
    return element
