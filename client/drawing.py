"""Boxes and labels drawn on a photo, readable on pictures of any size.

Images are uint8 BGR [H, W, 3], OpenCV's own order.
"""

import colorsys
import io
import math
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from client import images
from client.detection import Detection
from client.errors import InvalidImage
from client.image_header import ImageError, image_format, read_header, unreadable

Colour = tuple[int, int, int]

# RGB, told apart by colour-blind people too: Okabe and Ito, Color Universal Design, 2008.
PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # bluish green
    (213, 94, 0),  # vermilion
    (86, 180, 233),  # sky blue
    (204, 121, 167),  # reddish purple
    (240, 228, 66),  # yellow
)
GOLDEN_RATIO = 0.618034
PNG = b"\x89PNG\r\n\x1a\n"
ANIMATION_CHUNKS = (b"acTL", b"fcTL", b"fdAT")
# By EXIF's orientation: how what is stored becomes upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FONT = cv2.FONT_HERSHEY_SIMPLEX


def colour(class_id: int) -> Colour:
    """Return the class's colour as RGB in 0..255; the same class always has the same one."""
    if class_id < len(PALETTE):
        return PALETTE[class_id]
    # Past the palette: hues that never come round to one already used.
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, 0.65, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def read(image: images.Image, max_pixels: int = images.MAX_PIXELS) -> np.ndarray:
    """Return an image as uint8 BGR [H, W, 3], upright as the server's boxes expect it.

    Args:
        image: what `Detector.detect` takes.
        max_pixels: of what is decoded; a file of 100 KB may claim gigabytes.

    Raises:
        InvalidImage: it cannot be read or decoded, or has more pixels.
    """
    data = images.encoded(image, images.LARGEST_LIMIT)  # it is not sent
    try:
        kind = image_format(data)
        header = read_header(kind, data, max_pixels)
        turn = header.orientation
        picture = _with_pillow(data, turn) if _is_for_pillow(data) else _decoded(data)
        if picture is None:
            raise unreadable(kind)
    except (cv2.error, OSError, SyntaxError, ValueError) as error:  # Pillow's ways to say no
        why = f": {error}" if isinstance(error, ImageError) else ""
        name = images.name_of(image)
        raise InvalidImage(f"{name}: cannot be decoded for drawing{why}") from None
    return picture


def _decoded(data: bytes) -> np.ndarray | None:
    # IMREAD_COLOR applies the orientation of JPEG, PNG and TIFF.
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def _is_for_pillow(data: bytes) -> bool:
    # OpenCV 4.11 leaves a WebP's orientation out, and reads freed memory on animated PNG.
    animated = data.startswith(PNG) and any(chunk in data for chunk in ANIMATION_CHUNKS)
    return animated or data[8:12] == b"WEBP"


def _with_pillow(data: bytes, orientation: int) -> np.ndarray:
    # Not ImageOps.exif_transpose: it copies every tag's value, and looks at more than EXIF.
    with Image.open(io.BytesIO(data), formats=["WEBP", "PNG"]) as picture:
        rgb = picture.convert("RGB")
    if orientation in TURNS:
        rgb = rgb.transpose(TURNS[orientation])
    return np.ascontiguousarray(np.asarray(rgb)[..., ::-1])


def write(picture: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Save a picture in the format that the path's suffix names.

    Raises:
        OSError: it cannot be written there; an older picture is as it was.
    """
    path = Path(path)
    _, data = cv2.imencode(path.suffix, picture)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data.tobytes())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def draw(image_bgr: np.ndarray, detections: Iterable[Detection]) -> np.ndarray:
    """Return a copy of the image with the detections drawn, the best on top.

    Labels stay inside the picture where it is large enough to hold them. OpenCV's fonts are ASCII:
    other letters appear as question marks.

    Raises:
        ValueError: the image is not uint8 [H, W, 3].
    """
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        raise ValueError(
            "image_bgr must be uint8 with shape [H, W, 3], "
            f"but got {image_bgr.dtype} with shape {list(image_bgr.shape)}"
        )
    picture = image_bgr.copy()
    best_last = sorted(detections, key=lambda detection: detection.score)
    (height, width), count = picture.shape[:2], len(best_last)
    for detection in best_last:
        _draw_box(picture, detection, line_width(height, width, count))
    for detection in best_last:
        _draw_label(picture, detection, font_scale(height, width, count))
    return picture


def line_width(height: int, width: int, boxes: int = 1) -> int:
    """Return the width of a box's line in pixels for a picture of this size, with so many boxes."""
    return max(1, round(min(min(height, width) / 300, 3.3 * font_scale(height, width, boxes))))


def font_scale(height: int, width: int, boxes: int = 1) -> float:
    """Return OpenCV's font scale for a picture of this size: capitals of 10 pixels or more.

    Many labels are smaller, so that they hide an eighth of the picture at most: each is about eight
    capitals wide and one and a half high.
    """
    room = math.sqrt(height * width / 8 / 12 / max(1, boxes))
    return max(10.0, min(min(height, width) / 45, room)) / 22  # 22 pixels: FONT's capitals at 1


def _draw_box(picture: np.ndarray, detection: Detection, thickness: int) -> None:
    box = detection.box
    corner, opposite = (round(box.x1), round(box.y1)), (round(box.x2), round(box.y2))
    halo = thickness + max(2, thickness)  # dark, so that the box shows on its own colour too
    cv2.rectangle(picture, corner, opposite, (40, 40, 40), halo, cv2.LINE_AA)
    cv2.rectangle(picture, corner, opposite, _bgr(detection), thickness, cv2.LINE_AA)


def _draw_label(picture: np.ndarray, detection: Detection, scale: float) -> None:
    text = f"{detection.label} {detection.score:.2f}".encode("ascii", "replace").decode()
    height, width = picture.shape[:2]
    thickness = max(1, round(1.6 * scale))
    (text_width, text_height), descent = cv2.getTextSize(text, FONT, scale, thickness)
    margin = max(2, text_height // 5)
    label_width, label_height = text_width + 2 * margin, text_height + descent + margin
    left = _within(round(detection.box.x1), width - label_width)
    top = _within(round(detection.box.y1) - label_height, height - label_height)
    opposite = (left + label_width, top + label_height)
    cv2.rectangle(picture, (left, top), opposite, _bgr(detection), cv2.FILLED)
    start = (left + margin, top + text_height + margin)
    cv2.putText(picture, text, start, FONT, scale, _ink(detection), thickness, cv2.LINE_AA)


def _within(start: int, last: int) -> int:
    """Return the start moved into 0..last; 0 where there is no room at all."""
    return max(0, min(start, last))


def _bgr(detection: Detection) -> Colour:
    red, green, blue = colour(detection.class_id)
    return blue, green, red


def _ink(detection: Detection) -> Colour:
    """Return black or white, whichever contrasts more (luma of ITU-R BT.601)."""
    red, green, blue = colour(detection.class_id)
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
