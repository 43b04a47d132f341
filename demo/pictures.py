"""Photos as the browser gets them, the colours of classes, and photos with the boxes drawn."""

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder

from client import Detection, InvalidImage, Result, drawing
from demo import uploads

PHOTO_LIMIT = 32  # megabytes; room for a detailed JPEG of the most pixels the server takes
SHOWN_SIDE, THUMBNAIL_SIDE = 1600, 160  # pixels, the longer side of what the browser gets
DRAWN_QUALITY = 95  # JPEG, of the pictures with boxes drawn


def read_photo(path: str) -> bytes:
    """Return an uploaded photo's bytes, as they are.

    Raises:
        InvalidImage: it is too large, or no longer there: uploads are removed after a while.
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidImage(
            "It is no longer here: photos are kept for an hour, or until their room is needed. "
            "Drop it again."
        )
    megabytes = file.stat().st_size / 2**20
    if megabytes > PHOTO_LIMIT:
        raise InvalidImage(f"It has {megabytes:.0f} MB, and {PHOTO_LIMIT} MB is the limit.")
    uploads.touch(file)
    return file.read_bytes()


def copies(path: str, photo: bytes) -> dict[str, Any]:
    """Upright JPEG copies for the browser, which cannot show every format: "image", "thumbnail".

    Gradio serves them, and removes them when they are old. A photo's are made once.

    Raises:
        InvalidImage: it cannot be decoded here.
    """
    folder = Path(get_upload_folder()) / hashlib.sha256(path.encode()).hexdigest()
    shown, thumbnail = folder / "shown.jpg", folder / "thumbnail.jpg"
    if shown.is_file() and thumbnail.is_file():
        for file in (shown, thumbnail):
            uploads.touch(file)
    else:
        picture = drawing.read(photo)
        _write(thumbnail, _jpeg(_within(picture, THUMBNAIL_SIDE), 85))
        _write(shown, _jpeg(_within(picture, SHOWN_SIDE), 90))
    return {"image": _served(shown), "thumbnail": _served(thumbnail)}


def drawn(path: str, detections: Iterable[Detection]) -> dict[str, Any]:
    """A JPEG of the photo for the browser, upright, in its own size, these detections drawn on it.

    Raises:
        InvalidImage: it is no longer there, or cannot be decoded.
    """
    picture = drawing.draw(drawing.read(read_photo(path)), detections)
    # Each in a folder of its own: others may draw other boxes, and the browser takes this name.
    file = Path(get_upload_folder()) / secrets.token_hex(16) / f"{Path(path).stem}-detections.jpg"
    _write(file, _jpeg(picture, DRAWN_QUALITY))
    return _served(file)


def colours(results: Iterable[Result]) -> dict[str, dict[str, str]]:
    """The colour of each label that occurs, as in `client.drawing`, and one to write on it."""
    classes = {found.label: found.class_id for result in results for found in result.detections}
    return {label: css(class_id) for label, class_id in classes.items()}


def css(class_id: int) -> dict[str, str]:
    """A class's colour as in `client.drawing`, and black or white to write on it."""
    colour = drawing.colour(class_id)
    return {"colour": "rgb({},{},{})".format(*colour), "ink": ink(colour)}


def ink(colour: drawing.Colour) -> str:
    """Black or white, whichever stands out more: WCAG 2.2, relative luminance and contrast."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _write(path: Path, content: bytes) -> None:
    uploads.make_way(len(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _within(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture, scaled down where its longer side is longer than that."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _served(path: Path) -> dict[str, Any]:
    return gr.FileData(path=str(path)).model_dump()
