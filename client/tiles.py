"""Large pictures in overlapping tiles, so that small objects in them are found.

The network sees a picture at its input size, 300 x 300 pixels: an object of 60 pixels in a photo
4000 wide is 4 pixels there. In a tile of 640 it is 28. Each size of object is one's to find:

    whole picture   objects that may fit into no tile: larger than the overlap less twice EDGE
    tiles           objects that do not touch an inner edge of their tile; one that does is whole in
                    a neighbour, if it is no larger than that
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, Unpack

import cv2
import numpy as np

from client import drawing
from client.detection import Box, Detection, Result
from client.errors import InvalidParameter
from client.images import Image, jpeg
from client.tensors import Parameters

# Of a tile's side: how far from an edge a box may end that belongs to an object cut by it.
EDGE = 0.01
# The server gets tiles, and so may be shown larger pictures than its own limit: 16384 x 16384. Here
# that takes 1 to 2 GB.
MAX_PIXELS = 2**28
SMALLEST = 64  # pixels, of a tile: a slip of the finger must not make a million requests
IOU_THRESHOLD = 0.45  # the server's default


class SupportsDetectMany(Protocol):
    """What is asked of a detector: `Detector` has it, and so may others."""

    def detect_many(
        self, images: Iterable[Image], *, concurrency: int, **parameters: Unpack[Parameters]
    ) -> Iterator[Result]: ...


class Window(NamedTuple):
    """A part of a picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int


def detect_tiled(
    detector: SupportsDetectMany,
    image: Image,
    *,
    tile: int = 640,
    overlap: float = 0.4,
    concurrency: int = 8,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
) -> Result:
    """Return what is detected in a picture and in its tiles, merged.

    Args:
        detector: gets JPEGs, several at once.
        image: as for `Detector.detect`; decoded here, if it has no more than MAX_PIXELS.
        tile: side of a tile, pixels. Best near the size of the photos that the model was trained
            on. A picture that is no larger is sent as it is, untouched.
        overlap: of neighbouring tiles, 0..0.9 of a tile: at least the largest object that the whole
            picture is too coarse for.
        concurrency: tiles under way at once.
        score_threshold: as for `Detector.detect`.
        iou_threshold: the same, also between tiles; None: 0.45.
        max_detections: the same, of each tile and of the whole; None: as many as there are.

    Raises:
        InvalidParameter: tile or overlap is out of range.
        DetectorError: the picture cannot be read, or a tile failed.
    """
    if tile < SMALLEST or not 0 <= overlap <= 0.9:
        raise InvalidParameter(
            f"tile must be {SMALLEST} or more and overlap 0 to 0.9, but got {tile} and {overlap}"
        )
    picture = drawing.read(image, MAX_PIXELS)
    height, width = picture.shape[:2]
    whole, *tiles = windows(width, height, tile, overlap)
    results = detector.detect_many(
        (cut_window(picture, window, tile) for window in (whole, *tiles)) if tiles else [image],
        concurrency=concurrency,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
    )
    first = next(results)
    if not tiles:
        return first
    surely_whole = (overlap - 2 * EDGE) * tile  # in one of the tiles, clear of its edges
    found = [each for each in placed(first, whole) if longer_side(each.box) > surely_whole]
    for window, result in zip(tiles, results, strict=True):
        seen = placed(result, window)
        found += [each for each in seen if not is_cut(each.box, window, width, height)]
    kept = suppress(found, IOU_THRESHOLD if iou_threshold is None else iou_threshold)
    detections = tuple(kept[:max_detections])
    return replace(first, detections=detections, width=width, height=height)


def windows(width: int, height: int, tile: int, overlap: float) -> list[Window]:
    """Return the whole picture and, where it is larger than a tile, its tiles row by row.

    All tiles have one size. They overlap by `overlap` of a tile or more, evenly.
    """
    across, down = min(tile, width), min(tile, height)
    grid = [
        Window(x, y, across, down)
        for y in starts(height, down, overlap)
        for x in starts(width, across, overlap)
    ]
    return [Window(0, 0, width, height), *(grid if len(grid) > 1 else [])]


def starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin along one side: the first at 0, the last one ends with the side."""
    rest = length - tile
    steps = math.ceil(rest / (tile * (1 - overlap)))
    return [round(step * rest / steps) for step in range(steps)] + [rest]


def cut_window(picture: np.ndarray, window: Window, tile: int) -> bytes:
    """Return a window of a picture (uint8 BGR) as a JPEG, no side longer than a tile."""
    x, y, width, height = window
    pixels = picture[y : y + height, x : x + width]
    scale = tile / max(width, height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return jpeg(pixels)


def placed(result: Result, window: Window) -> Iterator[Detection]:
    """Yield a window's detections with their boxes in pixels of the picture."""
    across, down = window.width / result.width, window.height / result.height
    for detection in result.detections:
        box = detection.box
        moved = Box(
            window.x + box.x1 * across,
            window.y + box.y1 * down,
            window.x + box.x2 * across,
            window.y + box.y2 * down,
        )
        yield replace(detection, box=moved)


def is_cut(box: Box, window: Window, width: int, height: int) -> bool:
    """Return whether a box ends at an inner edge: of its window, but not of the whole picture."""
    right, bottom = window.x + window.width, window.y + window.height
    margin_x, margin_y = EDGE * window.width, EDGE * window.height
    return (
        (window.x > 0 and box.x1 < window.x + margin_x)
        or (window.y > 0 and box.y1 < window.y + margin_y)
        or (right < width and box.x2 > right - margin_x)
        or (bottom < height and box.y2 > bottom - margin_y)
    )


def suppress(found: Sequence[Detection], iou_threshold: float) -> list[Detection]:
    """Return what remains after non-maximum suppression per class, best first."""
    boxes_xywh = [
        (box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1)
        for box in (detection.box for detection in found)
    ]
    scores = [detection.score for detection in found]
    classes = [detection.class_id for detection in found]
    kept = cv2.dnn.NMSBoxesBatched(boxes_xywh, scores, classes, 0.0, iou_threshold)
    return [found[index] for index in kept]


def longer_side(box: Box) -> float:
    """Return the larger of a box's width and height, pixels."""
    return max(box.x2 - box.x1, box.y2 - box.y1)
