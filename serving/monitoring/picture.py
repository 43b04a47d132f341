"""Draws histograms, the live ones beside those of the reference."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from serving.errors import DriftError
from serving.monitoring.judgement import Finding
from serving.monitoring.statistic import PER_IMAGE
from serving.monitoring.words import describe_distance

COLUMNS = 3
PANEL = (420, 260)  # width and height, pixels
MARGIN = 24
WIDTH, TOP, FLOOR = PANEL[0] - MARGIN, 52, PANEL[1] - 48  # of a panel's bars
WHITE, INK, FAINT = (255, 255, 255), (32, 33, 36), (128, 134, 139)
REFERENCE, LIVE = (189, 193, 198), (217, 48, 37)
SCALE = 2  # drawn so much larger, then made smaller: round edges
WIDEST = 48  # pixels, of a bar
TICKS = 7  # numbers below a panel, at most


def draw_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write a picture with a panel for each finding, of which there is one at least.

    Raises:
        DriftError: it cannot be written.
    """
    columns = min(COLUMNS, len(findings))
    rows = -(-len(findings) // columns)
    size = (columns * PANEL[0] + MARGIN, rows * PANEL[1] + MARGIN)
    picture = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), WHITE)
    for number, found in enumerate(findings):
        row, column = divmod(number, columns)
        _draw_panel(Canvas(picture, column * PANEL[0] + MARGIN, row * PANEL[1] + MARGIN), found)
    try:
        picture.resize(size, Image.Resampling.LANCZOS).save(path)
    except (OSError, ValueError) as error:
        raise DriftError(f"--picture {path} cannot be written: {error}") from None


class Canvas:
    """A part of a picture, in its own pixels."""

    def __init__(self, picture: Image.Image, left: int, top: int) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._left, self._top = left, top

    def text(
        self, x: float, y: float, words: str, size: int, colour: tuple[int, int, int], anchor: str
    ) -> None:
        """Words, at a point that their anchor names (Pillow's, such as "la")."""
        font = ImageFont.load_default(size * SCALE)
        self._draw.text(self._point(x, y), words, colour, font, anchor)

    def bar(self, box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
        """A filled box, xyxy."""
        self._draw.rectangle((*self._point(*box[:2]), *self._point(*box[2:])), colour)

    def _point(self, x: float, y: float) -> tuple[float, float]:
        return (self._left + x) * SCALE, (self._top + y) * SCALE


def _draw_panel(canvas: Canvas, found: Finding) -> None:
    """A statistic's name, how far it moved, and its bins, each as wide as the others."""
    canvas.text(0, 0, str(found.statistic), 17, INK, "la")
    colour = LIVE if found.moved else FAINT
    canvas.text(0, 24, describe_distance(found), 12, colour, "la")
    canvas.text(WIDTH, 4, "live", 12, LIVE, "ra")
    canvas.text(WIDTH - 30, 4, "reference", 12, FAINT, "ra")
    pair = found.reference.values, found.live.values
    if len(pair[0].edges) != len(pair[1].edges):
        canvas.text(0, TOP, "in other bins than the reference", 12, FAINT, "la")
        return
    shares = np.array([each.counts / each.total for each in pair])  # [2, bins]
    first, last = np.flatnonzero(shares.any(0))[[0, -1]]
    _draw_bars(canvas, shares[:, first : last + 1])
    middle = 0.5 if found.statistic.name == PER_IMAGE else 1.0  # of a bin, where its edge is told
    _draw_edges(canvas, pair[0].edges[first : last + 1], last + 1 - first, middle)


def _draw_bars(canvas: Canvas, shares: np.ndarray) -> None:
    """Two bars for each bin; shares: [2, bins], 0 to 1."""
    slot, highest = WIDTH / shares.shape[1], shares.max()
    wide = min(0.4 * slot, WIDEST)
    for side, (colour, bars) in enumerate(zip((REFERENCE, LIVE), shares, strict=True)):
        for number, share in enumerate(bars):
            left = (number + 0.5) * slot + (side - 1) * wide
            top = FLOOR - share / highest * (FLOOR - TOP)
            canvas.bar((left, top, left + wide, FLOOR), colour)
    canvas.bar((0, FLOOR, WIDTH, FLOOR + 1), FAINT)


def _draw_edges(canvas: Canvas, edges: np.ndarray, bins: int, middle: float) -> None:
    """Some of the bins' upper edges, below them."""
    every = -(-len(edges) // TICKS)
    for number in range(0, len(edges), every):
        x = (number + middle) * WIDTH / bins
        canvas.text(x, FLOOR + 6, f"{edges[number]:g}", 11, FAINT, "ma")
