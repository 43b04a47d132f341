"""Default boxes: the fixed grid of boxes that the network's outputs are offsets to.

SSD, section 2.2 "Choosing scales and aspect ratios for default boxes". The order is the order of
the network's outputs: feature map, row, column, box.
"""

import itertools
import math

import numpy as np

from training.presets import Preset


def boxes_per_cell(preset: Preset) -> tuple[int, ...]:
    """How many default boxes each cell of each feature map has."""
    return tuple(2 + 2 * len(ratios) for ratios in preset.aspect_ratios)


def describe(preset: Preset) -> list[dict[str, object]]:
    """All that `default_boxes` is made of: each feature map's side and its boxes' sizes."""
    maps = zip(preset.feature_maps, _shapes(preset), strict=True)
    return [{"side": side, "widths_heights": shapes} for side, shapes in maps]


def default_boxes(preset: Preset) -> np.ndarray:
    """All default boxes, cxcywh, normalised, not clipped: float32 [A, 4]."""
    maps = zip(preset.feature_maps, _shapes(preset), strict=True)
    return np.concatenate([_grid(side, shapes) for side, shapes in maps]).astype(np.float32)


def _shapes(preset: Preset) -> list[list[tuple[float, float]]]:
    """Widths and heights of one cell's boxes, for each feature map."""
    pairs = itertools.pairwise(preset.scales)
    return [
        _cell_shapes(scale, following, ratios)
        for (scale, following), ratios in zip(pairs, preset.aspect_ratios, strict=True)
    ]


def _cell_shapes(
    scale: float, following: float, ratios: tuple[float, ...]
) -> list[tuple[float, float]]:
    middle = math.sqrt(scale * following)  # the paper's extra box of ratio 1
    shapes = [(scale, scale), (middle, middle)]
    for ratio in ratios:
        root = math.sqrt(ratio)
        shapes += [(scale * root, scale / root), (scale / root, scale * root)]
    return shapes


def _grid(side: int, shapes: list[tuple[float, float]]) -> np.ndarray:
    centres = (np.arange(side) + 0.5) / side
    cy, cx, index = np.meshgrid(centres, centres, np.arange(len(shapes)), indexing="ij")
    size = np.asarray(shapes)[index.ravel()]  # [side * side * shapes, 2]
    return np.column_stack([cx.ravel(), cy.ravel(), size])
