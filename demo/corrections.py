"""Corrections that people make on the page, kept as a Pascal VOC folder that `training` reads.

    FOLDER/labels.txt             the classes there are to choose from, one a line
    FOLDER/JPEGImages/ID.jpg      the photo's file as it was uploaded, EXIF and all
    FOLDER/Annotations/ID.xml     the boxes as a person left them

ID is the beginning of the sha256 of the uploaded file, so a photo that is corrected again has its
annotation replaced. There are no lists of splits: `training` takes such a folder as a whole and
holds `val` out of it. Each file gets its name once it is whole, the image before its annotation.

Boxes are those of the page: pixels of the upright photo, edges from 0. VOC counts from 1 and
includes the last pixel: `training.data.formats.voc` reads exactly these boxes again.

Raises: `CorrectionError`, with a sentence for the person who made the correction.
"""

import errno
import hashlib
import io
import logging
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import cv2
import numpy as np
from defusedxml.ElementTree import fromstring
from PIL import Image

from client import drawing
from client.detect.formats.voc import bndbox, voc_xml
from client.errors import InvalidImage
from demo.corrected_boxes import CorrectedBox, CorrectionError, check_boxes, read_labels

MEGABYTE = 1_000_000
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp"}  # what `training` reads
ORIENTATION = 0x0112  # EXIF 2.32
EXIF_LIMIT = 2**16  # bytes, as much as one segment of a JPEG holds
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


class Corrections:
    """A folder of corrected photos. Threads may share it, and processes the folder.

    Args:
        folder: made if it is not there.
        served: the served model's classes in their order. Where the folder has no labels.txt yet,
            they are written there; where it has one, that counts, and may name more classes.
        limit: megabytes that the folder's files may have together.

    Raises:
        CorrectionError: the folder cannot be written, or nobody says what the classes are.
    """

    def __init__(self, folder: Path, served: Sequence[str] = (), limit: int = 1000) -> None:
        self.folder = folder
        self.limit = limit
        self._lock = threading.Lock()
        try:
            for part in ("JPEGImages", "Annotations"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            self.labels = read_labels(folder / "labels.txt", served)
            text = "".join(f"{label}\n" for label in self.labels)
            place_file(
                folder / "labels.txt", text.encode()
            )  # also tells if the folder can be written
        except OSError as error:
            raise CorrectionError(f"{folder}: no folder for corrections: {error}") from error

    def save(self, photo: bytes, boxes: Any) -> int:
        """Store a photo with its boxes; returns how many there are.

        Args:
            photo: the bytes of an encoded image file.
            boxes: as a browser sent them, and so anything at all. Wanted: a list, empty where
                nothing is on the photo, of {"label", "x1", "y1", "x2", "y2", "difficult"}.

        Raises:
            CorrectionError: this photo or a box cannot be stored; everything is as it was.
        """
        try:
            picture_bgr = drawing.read(photo)
        except InvalidImage as error:
            why = str(error).removeprefix("the image: ")
            raise CorrectionError(f"This photo {why}.") from error
        height, width = picture_bgr.shape[:2]
        checked = check_boxes(boxes, self.labels, width, height)
        suffix, content = image_file(photo, picture_bgr)
        name = image_id(photo)
        xml = annotation(f"{name}{suffix}", width, height, checked)
        try:
            with self._lock:
                self._store(self.folder / "JPEGImages" / f"{name}{suffix}", content, xml)
        except OSError as error:
            logger.error("correction of %s: %s", name, error)
            why = "its disk is full" if error.errno in FULL_DISK else "it cannot write the file"
            raise CorrectionError(f"The server could not store this: {why}.") from error
        return len(checked)

    def load(self, photo: bytes) -> tuple[CorrectedBox, ...] | None:
        """The boxes that somebody stored for this very file before; None where nobody did."""
        try:
            root = fromstring(self._annotation(image_id(photo)).read_bytes())
            return tuple(corrected_box(element) for element in root.iter("object"))
        except FileNotFoundError:
            return None
        except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
            logger.error("correction of %s: %s", image_id(photo), error)
            return None  # edited by hand since then, into something else

    def _store(self, image: Path, content: bytes, xml: bytes) -> None:
        new = not image.exists()  # else it has the same content: its name is made of that
        if new:
            self._require_room(len(content) + len(xml))
            place_file(image, content)
        try:
            place_file(self._annotation(image.stem), xml)
        except OSError:
            if new:
                image.unlink(missing_ok=True)
            raise

    def _annotation(self, name: str) -> Path:
        return self.folder / "Annotations" / f"{name}.xml"

    def _require_room(self, size: int) -> None:
        taken = sum(size_of(path) for path in self.folder.glob("*/*.*"))
        if taken + size > self.limit * MEGABYTE:
            raise CorrectionError(
                f"The server keeps {self.limit} MB of corrections, and that is full. "
                "Please tell whoever runs it."
            )


def image_id(photo: bytes) -> str:
    """What a photo's files are called."""
    return hashlib.sha256(photo).hexdigest()[:20]


def size_of(path: Path) -> int:
    """Bytes; 0 where another process has just given the file its name."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def place_file(path: Path, content: bytes) -> None:
    """Write a file that has its name only once it is whole."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def image_file(photo: bytes, picture_bgr: np.ndarray) -> tuple[str, bytes]:
    """Suffix and content of the file to keep.

    That is the photo itself where `training` sees a picture of the same upright size in it, so that
    it is known again among other data; else a lossless copy: of WebP, TIFF and animations, of
    photos that say in XMP alone that they are to be turned, and of odd EXIF.
    """
    kind = own_format(photo, *picture_bgr.shape[:2])
    if kind:
        return SUFFIXES[kind], photo
    return ".png", cv2.imencode(".png", picture_bgr)[1].tobytes()


def own_format(photo: bytes, height: int, width: int) -> str | None:
    """The photo's format by Pillow, which `training` reads with; None where it cannot be kept."""
    if photo.count(b"Exif\0\0") > 1:
        return None  # Pillow joins them and copies every tag's value: 2 MB become 64 GB
    try:
        with Image.open(io.BytesIO(photo), formats=["JPEG", "PNG", "BMP"]) as image:
            if sorted(image.size) != sorted((height, width)):
                return None  # before its pixels are looked at
            image.load()
            return image.format if upright_size(image) == (width, height) else None
    except Exception:  # Pillow's decoders raise whatever they stumble over
        return None


def upright_size(image: Image.Image) -> tuple[int, int] | None:
    """Width and height as `training` takes them; None for what it had better not see."""
    long_exif = len(image.info.get("exif", b"")) > EXIF_LIMIT
    if long_exif or "Raw profile type exif" in image.info:
        return None
    if image.format == "PNG" and getattr(image, "is_animated", False):
        return None
    turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def annotation(name: str, width: int, height: int, boxes: Sequence[CorrectedBox]) -> bytes:
    """Pascal VOC's XML of a photo with these boxes."""
    objects = (voc_object(box, width, height) for box in boxes)
    return voc_xml(name, width, height, objects, source={"database": "corrections"}, segmented=0)


def voc_object(box: CorrectedBox, width: int, height: int) -> dict[str, Any]:
    """`truncated` where the box touches the border of the photo, and the object so ends there."""
    cut = box.x1 == 0 or box.y1 == 0 or box.x2 == width or box.y2 == height
    return {
        "name": box.label,
        "pose": "Unspecified",
        "truncated": int(cut),
        "difficult": int(box.difficult),
        "bndbox": bndbox(box.x1, box.y1, box.x2, box.y2),
    }


def corrected_box(element: Element) -> CorrectedBox:
    """What `voc_object` wrote; ValueError or TypeError where it is something else."""
    xmin, ymin, xmax, ymax = (
        int(element.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = element.findtext("difficult") == "1"
    return CorrectedBox(element.findtext("name", ""), xmin - 1, ymin - 1, xmax, ymax, difficult)
