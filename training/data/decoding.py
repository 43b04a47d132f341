"""Image files to upright pixels, by the very code that decodes in front of the served network.

In: a file's bytes: JPEG, PNG, BMP, WebP or TIFF, recognised by content, of several frames or pages
the first. Out: uint8 RGB [H, W, 3], upright, and what the file says of itself.

One rule says how a picture is turned, in training, serving and client: EXIF's orientation, in a
JPEG's APP1 segment or a PNG's or WebP's EXIF chunk, and TIFF's own. XMP and a PNG's text "Raw
profile type exif" turn nothing: browsers and OpenCV do not look at them, Pillow alone does.
"""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from training.data import resemblance
from training.data.files import read_bytes
from training.data.problems import BadImageError, DataError
from training.served_code import load_step

IMAGE_LIMIT = 2**30  # bytes of a file; 64 megapixels of 3 x 16 bits have 2**28.5
MAX_PIXELS = 64_000_000  # as in preprocess/config.pbtxt


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What decoding a file told: its upright size in pixels, its format, its orientation."""

    width: int
    height: int
    format: str  # JPEG, PNG, BMP, WebP or TIFF
    orientation: int  # EXIF, 1 to 8; 5 and above swap width and height
    look: bytes = b""  # as `resemblance.look` tells it


_header = load_step("preprocess", "image_header")
_preprocessing = load_step("preprocess", "preprocessing")
PADDING: int = _preprocessing.PADDING  # around a letterboxed photo, 0..255
ImageError: type[ValueError] = _header.ImageError
cv2.setLogLevel(0)  # whoever asked hears of a bad file; OpenCV need not print it too


def decode(encoded: bytes) -> tuple[np.ndarray, ImageInfo]:
    """Decode a file in full, for a header alone does not tell whether the pixels are there.

    Raises:
        ImageError: what is none of the formats, truncated, damaged or of too many pixels.
    """
    kind = _header.image_format(encoded)
    header = _header.read_header(kind, encoded, MAX_PIXELS)
    pixels = _preprocessing.decode(kind, encoded, header, 1)
    picture = _preprocessing.upright(pixels, header.orientation)
    height, width = picture.shape[:2]
    picture = np.ascontiguousarray(picture)
    look = resemblance.look(picture)
    return picture, ImageInfo(width, height, kind, header.orientation, look)


def inspect_image(path: Path) -> ImageInfo:
    """What decoding a file in full told; errors as of `read_image`."""
    return read_image(path)[2]


def read_image(path: Path) -> tuple[bytes, np.ndarray, ImageInfo]:
    """An image file's bytes, its upright pixels, uint8 RGB [H, W, 3], and what it says of itself.

    Raises:
        BadImageError: the served network could not be shown it either: no JPEG, PNG, BMP, WebP or
            TIFF, truncated, or of too many pixels.
    """
    try:
        encoded = read_bytes(path, IMAGE_LIMIT)
        return encoded, *decode(encoded)
    except (DataError, OSError, ImageError) as error:
        raise BadImageError(f"does not decode: {error}") from error


def served(encoded: bytes, size: int, resize: str = "stretch") -> np.ndarray:
    """What preprocess makes of a file for the network: uint8 RGB [size, size, 3], upright."""
    image, _ = _preprocessing.read_image(encoded, size, size, MAX_PIXELS, resize)
    return np.ascontiguousarray(image)
