"""Default boxes: the fixed grid of boxes that the network's outputs are offsets to.

SSD, section 2.2 "Choosing scales and aspect ratios for default boxes". The order is the order of
the network's outputs: feature map, row, column, box.
"""

import itertools
import math

import numpy as np

from training.network.presets import BoxShapes, Preset


def boxes_per_cell(preset: Preset) -> tuple[int, ...]:
    """How many default boxes each cell of each feature map has."""
    return tuple(len(shapes) for shapes in box_shapes(preset))


def boxes_per_map(preset: Preset) -> tuple[int, ...]:
    """How many default boxes each feature map has."""
    counts = zip(preset.feature_maps, boxes_per_cell(preset), strict=True)
    return tuple(side**2 * count for side, count in counts)


def box_shapes(preset: Preset) -> BoxShapes:
    """Widths and heights of one cell's boxes, for each feature map: fitted ones, or the paper's."""
    if preset.box_shapes is not None:
        return preset.box_shapes
    pairs = itertools.pairwise(preset.scales)
    return tuple(
        _cell_shapes(scale, following, ratios)
        for (scale, following), ratios in zip(pairs, preset.aspect_ratios, strict=True)
    )


def describe_default_boxes(preset: Preset) -> list[dict[str, object]]:
    """All that `default_boxes` is made of: each feature map's side and its boxes' sizes."""
    maps = zip(preset.feature_maps, box_shapes(preset), strict=True)
    return [{"side": side, "widths_heights": shapes} for side, shapes in maps]


def default_boxes(preset: Preset) -> np.ndarray:
    """All default boxes, cxcywh, normalised, not clipped: float32 [A, 4]."""
    maps = zip(preset.feature_maps, box_shapes(preset), strict=True)
    return np.concatenate([_grid(side, shapes) for side, shapes in maps]).astype(np.float32)


def _cell_shapes(
    scale: float, following: float, ratios: tuple[float, ...]
) -> tuple[tuple[float, float], ...]:
    middle = math.sqrt(scale * following)  # the paper's extra box of ratio 1
    shapes = [(scale, scale), (middle, middle)]
    for ratio in ratios:
        root = math.sqrt(ratio)
        shapes += [(scale * root, scale / root), (scale / root, scale * root)]
    return tuple(shapes)


def _grid(side: int, shapes: tuple[tuple[float, float], ...]) -> np.ndarray:
    centres = (np.arange(side) + 0.5) / side
    cy, cx, index = np.meshgrid(centres, centres, np.arange(len(shapes)), indexing="ij")
    size = np.asarray(shapes).reshape(-1, 2)[index.ravel()]  # [side * side * shapes, 2]
    return np.column_stack([cx.ravel(), cy.ravel(), size])
