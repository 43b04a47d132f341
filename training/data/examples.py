"""An annotated image as a tf.train.Example: its file as it is, or encoded again.

The feature keys are `records.FEATURES`, those of the TensorFlow Object Detection API.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from training.data import decoding, tiles
from training.data.annotations import Annotation
from training.data.problems import BadImageError
from training.data.records import FEATURES

AS_THEY_ARE = ("JPEG", "PNG", "BMP")  # what tf.io.decode_image reads, in any TensorFlow
ENCODING = {"jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95], "png": []}  # of images encoded again
TILE_ENCODING = [cv2.IMWRITE_JPEG_QUALITY, 90]  # as the client's tiles travel
SAME_PICTURE = 4.0  # mean difference, of 255; JPEG decoders differ by less than 1


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image as it is stored."""

    encoded: bytes
    format: str  # jpeg, png or bmp
    width: int  # pixels, upright
    height: int
    encoded_again: bool


def stored_pictures(
    annotation: Annotation, max_side: int = 0, tile: int = 0
) -> Iterator[tuple[Annotation, Picture]]:
    """Yield an image as it is to be stored, with its boxes: as one, or as the client's tiles of it.

    As one it is its file, or upright pixels encoded again. That happens to images with an EXIF
    orientation, which tf.io.decode_image ignores, to WebP and TIFF, to those that it reads
    otherwise than what decodes in front of the served network, and to those that are larger than
    `max_side`.

    Raises:
        BadImageError: the file is no longer what it was when the split was read.
    """
    encoded, image, info = decoding.read_image(annotation.image_path)
    if (info.width, info.height) != (annotation.width, annotation.height):
        raise BadImageError(f"expected {annotation.width}x{annotation.height}, as it was just now")
    if 0 < tile < max(info.width, info.height):
        for window, part in tiles.cut_annotation(annotation, tile):
            yield part, _cut_tile(image, window, tile)
        return
    small = _shrink(image, max_side) if 0 < max_side < max(info.width, info.height) else image
    height, width = small.shape[:2]
    as_it_is = info.format in AS_THEY_ARE and info.orientation == 1 and small is image
    if as_it_is and _tensorflow_reads(encoded, image):
        yield annotation, Picture(encoded, info.format.lower(), width, height, False)
        return
    kind = "jpeg" if info.format == "JPEG" else "png"
    yield annotation, _encode(small, kind, ENCODING[kind])


def _cut_tile(image: np.ndarray, window: tiles.Window, tile: int) -> Picture:
    """A window of an image as the client sends it: no side is longer than a tile's."""
    x, y, width, height = window
    pixels = image[y : y + height, x : x + width]
    pixels = _shrink(pixels, tile) if max(width, height) > tile else pixels
    return _encode(pixels, "jpeg", TILE_ENCODING)


def _encode(image: np.ndarray, kind: str, options: list[int]) -> Picture:
    height, width = image.shape[:2]
    image_bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(f".{kind}", image_bgr, options)[1].tobytes()
    return Picture(encoded, kind, width, height, True)


def _shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """An image whose longer side has so many pixels, each the average of those it stands for."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _tensorflow_reads(encoded: bytes, image: np.ndarray) -> bool:
    """Whether tf.io.decode_image gives the same picture, for it misreads a BMP with a palette."""
    try:
        theirs = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        return False
    return theirs.shape == image.shape and cv2.absdiff(theirs, image).mean() < SAME_PICTURE


def to_example(
    annotation: Annotation, labels: tuple[str, ...], picture: Picture
) -> tf.train.Example:
    """One image under the Object Detection API's feature keys."""
    kinds = {
        "bytes": lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=value)),
        "float": lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=value)),
        "int64": lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=value)),
    }
    values = _values(annotation, labels, picture)
    features = {key: kinds[FEATURES[key]](value) for key, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _values(
    annotation: Annotation, labels: tuple[str, ...], picture: Picture
) -> dict[str, list[Any]]:
    size = np.array([annotation.width, annotation.height] * 2, np.float32)
    xmin, ymin, xmax, ymax = (annotation.boxes_xyxy / size).T.tolist()
    return {
        "image/height": [picture.height],
        "image/width": [picture.width],
        "image/filename": [annotation.image_path.name.encode()],
        "image/source_id": [annotation.image_id.encode()],
        "image/key/sha256": [hashlib.sha256(picture.encoded).hexdigest().encode()],
        "image/encoded": [picture.encoded],
        "image/format": [picture.format.encode()],
        "image/object/bbox/xmin": xmin,
        "image/object/bbox/xmax": xmax,
        "image/object/bbox/ymin": ymin,
        "image/object/bbox/ymax": ymax,
        "image/object/class/text": [label.encode() for label in annotation.labels],
        "image/object/class/label": [labels.index(label) + 1 for label in annotation.labels],
        "image/object/difficult": annotation.difficult.astype(int).tolist(),
        "image/object/truncated": annotation.truncated.astype(int).tolist(),
    }
