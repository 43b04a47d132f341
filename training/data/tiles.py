"""Large photos in the tiles that the tiled client asks for, and what becomes of their boxes there.

`client/tiles.py` asks for a photo that is larger than a tile as a whole, shrunk to a tile, and in
overlapping tiles. Each size of object is one's to find, and all else that is detected is dropped:

    whole photo   objects whose longer side is larger than the overlap less twice EDGE
    tiles         objects that end at no inner edge of their tile; one that does is whole in a
                  neighbour, if it is no larger than that

What the client drops is `difficult` here: it is neither to be found nor background.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from training.data.annotations import Annotation
from training.data.problems import DataError

OVERLAP = 0.4  # of a tile's side, as the client's by default
EDGE = 0.01  # of a tile's side: how far from an inner edge a box ends that is dropped
SMALLEST_SIDE = 300  # pixels: what most presets' input needs


class Window(NamedTuple):
    """A part of a photo, in its pixels."""

    x: int
    y: int
    width: int
    height: int


def check_tile(tile: int, input_size: int = SMALLEST_SIDE) -> None:
    """Refuse tiles that are smaller than what the network sees of them; 0 is no tiles.

    Raises:
        DataError: they are.
    """
    if tile and tile < input_size:
        raise DataError(
            f"--tile: tiles of {tile} pixels are smaller than the network's input, {input_size}, "
            f"and would only be blown up: expected 0, or {input_size} or more"
        )


def cut_annotation(annotation: Annotation, tile: int) -> Iterator[tuple[Window, Annotation]]:
    """Yield the windows that the client asks for and what is to be found in each, the whole first.

    A photo that is no larger than a tile has one window and is as it was. Boxes stay in pixels of
    the photo, from the window's corner on.
    """
    whole, *tiles = windows(annotation.width, annotation.height, tile)
    if not tiles:
        yield whole, annotation
        return
    sides = annotation.boxes_xyxy[:, 2:] - annotation.boxes_xyxy[:, :2]
    small = sides.max(axis=1, initial=0) <= (OVERLAP - 2 * EDGE) * tile
    yield whole, replace(annotation, difficult=annotation.difficult | small)
    for window in tiles:
        yield window, _cut_boxes(annotation, window)


def windows(width: int, height: int, tile: int) -> list[Window]:
    """The whole photo and, where it is larger than a tile, its tiles row by row."""
    across, down = min(tile, width), min(tile, height)
    grid = [
        Window(x, y, across, down) for y in _starts(height, down) for x in _starts(width, across)
    ]
    return [Window(0, 0, width, height), *(grid if len(grid) > 1 else [])]


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin along a side: they overlap by OVERLAP or more, evenly."""
    rest = length - tile
    steps = math.ceil(rest / (tile * (1 - OVERLAP)))
    return [round(step * rest / steps) for step in range(steps)] + [rest]


def _cut_boxes(annotation: Annotation, window: Window) -> Annotation:
    """What of an annotation a tile shows, from a pixel of an object on."""
    corner = np.array([window.x, window.y] * 2, np.float32)
    extent = np.array([window.width, window.height] * 2, np.float32)
    moved = annotation.boxes_xyxy - corner
    cut_xyxy = np.clip(moved, 0, extent)
    seen = ((cut_xyxy[:, 2:] - cut_xyxy[:, :2]) >= 1).all(axis=1)
    dropped = _ends_at_an_inner_edge(moved, annotation, window)
    return replace(
        annotation,
        image_id=f"{annotation.image_id}@{window.x},{window.y}",
        width=window.width,
        height=window.height,
        boxes_xyxy=cut_xyxy[seen],
        labels=tuple(
            label for label, is_seen in zip(annotation.labels, seen, strict=True) if is_seen
        ),
        difficult=(annotation.difficult | dropped)[seen],
        truncated=(annotation.truncated | (cut_xyxy != moved).any(axis=1))[seen],
    )


def _ends_at_an_inner_edge(
    boxes_xyxy: np.ndarray, annotation: Annotation, window: Window
) -> np.ndarray:
    """Whether the client takes boxes, in the window's pixels, for cut ones: bool [N]."""
    x, y, width, height = window
    x1, y1, x2, y2 = boxes_xyxy.T
    return (
        ((x > 0) & (x1 < EDGE * width))
        | ((y > 0) & (y1 < EDGE * height))
        | ((x + width < annotation.width) & (x2 > width - EDGE * width))
        | ((y + height < annotation.height) & (y2 > height - EDGE * height))
    )
