"""Boxes of a photo as a file: Pascal VOC's XML, and in its <source> who made them, when, of what.

Boxes are those of the page: pixels of the upright photo, edges from 0. VOC counts from 1 and
includes the last pixel: `training.data.formats.voc` reads exactly these boxes again.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from client.errors import BucketError
from client.inbox.photo import ID_LENGTH
from client.inbox.storage import Storage
from client.inbox.voc_xml import bndbox, voc_xml
from demo.corrections.boxes import CorrectedBox

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """What a file says.

    Attributes:
        name: of the file, without suffix.
        width: of the upright photo, pixels.
        height: likewise.
        boxes: in their order.
        source: the texts of the tags of <source>.
        digest: of the file; another one says that somebody has changed it; empty: not stored yet.
    """

    name: str
    width: int
    height: int
    boxes: tuple[CorrectedBox, ...]
    source: Mapping[str, str]
    digest: str = ""

    @property
    def photo(self) -> str:
        """The photo's id."""
        return self.name[:ID_LENGTH]

    @property
    def author(self) -> str:
        """Who made the boxes; empty where the file was written by another program."""
        return self.source.get("author", "")


def read_annotation(storage: Storage, path: PurePosixPath) -> Annotation | None:
    """What a file says; None where there is none, or somebody has made something else of it.

    Raises:
        BucketError: the bucket that it lies in does not say.
    """
    try:
        content = storage.find(path)
        if content is None:
            return None
        root = fromstring(content)
        boxes = tuple(_read_box(element) for element in root.iter("object"))
        width, height = (int(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        source = {each.tag: each.text or "" for each in root.iterfind("source/*")}
    except BucketError:
        raise
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        logger.error("%s: %s", path, error)
        return None  # edited by hand since then, into something else
    return Annotation(path.stem, width, height, boxes, source, digest_of(content))


def digest_of(content: bytes) -> str:
    """What tells a file from what others make of it."""
    return hashlib.sha256(content).hexdigest()[:16]


def write_annotation(made: Annotation, suffix: str) -> bytes:
    """Pascal VOC's XML of it, and of a photo whose name has this suffix."""
    objects = (_write_box(box, made.width, made.height) for box in made.boxes)
    size = (made.width, made.height)
    return voc_xml(f"{made.name}{suffix}", *size, objects, source=made.source, segmented=0)


def _write_box(box: CorrectedBox, width: int, height: int) -> dict[str, Any]:
    """`truncated` where the box touches the border of the photo, and the object so ends there."""
    cut = box.x1 == 0 or box.y1 == 0 or box.x2 == width or box.y2 == height
    return {
        "name": box.label,
        "pose": "Unspecified",
        "truncated": int(cut),
        "difficult": int(box.difficult),
        "bndbox": bndbox(box.x1, box.y1, box.x2, box.y2),
    }


def _read_box(element: Element) -> CorrectedBox:
    """What `_write_box` wrote; ValueError or TypeError where it is something else."""
    xmin, ymin, xmax, ymax = (
        int(element.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = element.findtext("difficult") == "1"
    return CorrectedBox(element.findtext("name", ""), xmin - 1, ymin - 1, xmax, ymax, difficult)
