"""Pictures of annotated and detected boxes, with matplotlib.

Mistakes are told by line and word, never by colour alone: what is right has a thin line, a missed
object a dashed one, a false detection a crossed box, a difficult object a dotted one. Colours name
the class.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from training.evaluation.outcomes import Outcome
from training.evaluation.score import Detected, Truth

# Okabe and Ito's palette: told apart with every kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
_DPI = 100


def colour(k: int) -> str:
    """The class's colour; those past the palette begin it again."""
    return COLOURS[k % len(COLOURS)]


def draw_panels(
    image: np.ndarray,
    truth: Truth,
    detected: Detected,
    outcome: Outcome,
    labels: Sequence[str],
    side: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """The annotated boxes, and the shown detections, each drawn on a copy of the image.

    Args:
        image: uint8 [H, W, 3], RGB, of the size that the boxes are in.
        outcome: which of them are mistakes.
        side: the copies' longer side is brought between these two, pixels.

    Returns:
        two images uint8 [h, w, 3], RGB.
    """
    photo, scale = _resize(image, side)
    return (
        _photo(photo, truth_marks(truth, detected, outcome, labels), scale),
        _photo(photo, detection_marks(truth, detected, outcome, labels), scale),
    )


def draw_outcome(
    image: np.ndarray,
    truth: Truth,
    detected: Detected,
    outcome: Outcome,
    labels: Sequence[str],
    side: tuple[int, int],
) -> np.ndarray:
    """The shown detections and the missed objects on one copy of the image.

    Arguments and result as for `draw_panels`.
    """
    photo, scale = _resize(image, side)
    missed = [m for m in truth_marks(truth, detected, outcome, labels) if m[2] == "dashed"]
    marks = detection_marks(truth, detected, outcome, labels)
    return _photo(photo, _mistakes_last([*marks, *missed]), scale)


def draw_detections(
    image: np.ndarray, detected: Detected, labels: Sequence[str], side: tuple[int, int]
) -> np.ndarray:
    """All detections on a copy of the image, where nobody knows which are right.

    Arguments and result as for `draw_panels`.
    """
    photo, scale = _resize(image, side)
    boxes = zip(detected.boxes_xyxy, detected.classes, strict=True)
    return _photo(photo, [(box, k, "solid", class_text(labels, k)) for box, k in boxes], scale)


def _resize(image: np.ndarray, side: tuple[int, int]) -> tuple[np.ndarray, float]:
    """A copy whose longer side is between these two, and by how much it is scaled."""
    longest = max(image.shape[:2])
    scale = float(np.clip(longest, *side)) / longest
    size = tuple(max(1, round(scale * extent)) for extent in image.shape[1::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=how), scale


_Mark = tuple[np.ndarray, int, str, str]  # box xyxy, class, line, text


def truth_marks(
    truth: Truth, detected: Detected, outcome: Outcome, labels: Sequence[str]
) -> list[_Mark]:
    taken = {row: detected.classes[outcome.shown[place]] for row, place in outcome.confused}
    marks = []
    for row, (box, k) in enumerate(zip(truth.boxes_xyxy, truth.classes, strict=True)):
        if truth.difficult[row]:
            marks.append((box, k, "dotted", f"difficult {labels[k]}"))
        elif row in taken:
            marks.append((box, k, "dashed", f"✗ {labels[k]}, taken for {labels[taken[row]]}"))
        elif outcome.missed[row]:
            marks.append((box, k, "dashed", f"✗ missed {labels[k]}"))
        else:
            marks.append((box, k, "solid", class_text(labels, k)))
    return _mistakes_last(marks)


def detection_marks(
    truth: Truth, detected: Detected, outcome: Outcome, labels: Sequence[str]
) -> list[_Mark]:
    really = {place: truth.classes[row] for row, place in outcome.confused}
    marks = []
    for place, row in reversed(list(enumerate(outcome.shown))):  # the best on top
        k, score = detected.classes[row], f"{detected.scores[row]:.2f}"
        if place in really:
            text, line = f"✗ {labels[k]} {score}, is {labels[really[place]]}", "crossed"
        elif outcome.false[place]:
            text, line = f"✗ false {labels[k]} {score}", "crossed"
        elif outcome.right[place]:
            text, line = f"{class_text(labels, k)} {score}".strip(), "solid"
        else:
            text, line = f"difficult {labels[k]} {score}", "dotted"
        marks.append((detected.boxes_xyxy[row], k, line, text))
    return _mistakes_last(marks)


def _mistakes_last(marks: list[_Mark]) -> list[_Mark]:
    return sorted(marks, key=lambda mark: mark[2] in ("dashed", "crossed"))


def class_text(labels: Sequence[str], k: int) -> str:
    """Empty where the colour alone names the class."""
    return labels[k] if len(labels) > len(COLOURS) else ""


def _photo(photo: np.ndarray, marks: list[_Mark], scale: float) -> np.ndarray:
    height, width = photo.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    figure.figimage(photo, zorder=-1)  # pixel by pixel, below the boxes
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for box_xyxy, k, line, text in marks:
        _mark(axes, box_xyxy * scale, colour(k), line)
        _plate(axes, box_xyxy * scale, text, colour(k), line)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _mark(axes: Axes, box_xyxy: np.ndarray, edge: str, line: str) -> None:
    x1, y1, x2, y2 = box_xyxy
    mistake = line in ("dashed", "crossed")
    style = line if line in ("dashed", "dotted") else "solid"
    stroke: dict[str, Any] = {"color": edge, "lw": 2.2 if mistake else 1.3, "linestyle": style}
    # A light edge around a mistake's line keeps it apart from whatever it lies on.
    halo = [patheffects.withStroke(linewidth=4.2, foreground="white")] if mistake else []
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, path_effects=halo, **stroke))
    if line == "crossed":
        for ends in ((y1, y2), (y2, y1)):
            axes.plot((x1, x2), ends, color=edge, lw=0.9, alpha=0.8)


def _plate(axes: Axes, box_xyxy: np.ndarray, text: str, fill: str, line: str) -> None:
    if not text:
        return
    mistake = line in ("dashed", "crossed")
    height, width = axes.get_ylim()[0], axes.get_xlim()[1]
    size = 7.5 if mistake else 6.0
    long = len(text) * size * 0.9  # pixels, about
    axes.text(
        float(np.clip(box_xyxy[0], 2, max(2.0, width - long))),
        float(np.clip(box_xyxy[1] - 2, 2.2 * size, height)),
        text,
        color="white" if mistake or _is_dark(fill) else "black",
        fontsize=size,
        verticalalignment="bottom",
        bbox={
            "facecolor": "#16191d" if mistake else fill,
            "edgecolor": "none",
            "pad": 1.2,
            "alpha": 0.92 if mistake else 0.8,
        },
    )


def _is_dark(colour: str) -> bool:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140
