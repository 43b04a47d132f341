"""The file of a photo that is kept to train with: what was sent, where that can be."""

import hashlib
import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp"}  # what `training` reads
ORIENTATION = 0x0112  # EXIF 2.32
EXIF_LIMIT = 2**16  # bytes, as much as one segment of a JPEG holds
ID_LENGTH = 20  # hexadecimal digits


class Photo(NamedTuple):
    """A file to keep: its name's suffix, and what is in it."""

    suffix: str
    content: bytes


def image_id(photo: bytes) -> str:
    """What a photo's files are called: the beginning of the sha256 of what was sent."""
    return hashlib.sha256(photo).hexdigest()[:ID_LENGTH]


def choose_file(photo: bytes, picture_bgr: np.ndarray) -> Photo:
    """The file to keep.

    That is the photo itself where `training` sees a picture of the same upright size in it, so that
    it is known again among other data; else a lossless copy: of WebP, TIFF and animations, of
    photos that say in XMP alone that they are to be turned, and of odd EXIF.

    Args:
        photo: the bytes of an encoded image file.
        picture_bgr: uint8 [H, W, 3], what is on it, upright.
    """
    kind = own_format(photo, *picture_bgr.shape[:2])
    if kind:
        return Photo(SUFFIXES[kind], photo)
    return Photo(".png", cv2.imencode(".png", picture_bgr)[1].tobytes())


def own_format(photo: bytes, height: int, width: int) -> str | None:
    """The photo's format by Pillow, which `training` reads with; None where it cannot be kept."""
    if photo.count(b"Exif\0\0") > 1:
        return None  # Pillow joins them and copies every tag's value: 2 MB become 64 GB
    try:
        with Image.open(io.BytesIO(photo), formats=["JPEG", "PNG", "BMP"]) as image:
            if sorted(image.size) != sorted((height, width)):
                return None  # before its pixels are looked at
            image.load()
            return image.format if _upright_size(image) == (width, height) else None
    except Exception:  # Pillow's decoders raise whatever they stumble over
        return None


def _upright_size(image: Image.Image) -> tuple[int, int] | None:
    """Width and height as `training` takes them; None for what it had better not see."""
    long_exif = len(image.info.get("exif", b"")) > EXIF_LIMIT
    if long_exif or "Raw profile type exif" in image.info:
        return None
    if image.format == "PNG" and getattr(image, "is_animated", False):
        return None
    turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size
