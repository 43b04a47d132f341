"""Pictures of detections beside the truth, with matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from training.evaluate import Detected, Truth

# Okabe and Ito's palette: told apart with every kind of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
_SHOWN_SCORE = 0.3  # detections below would hide the picture


def draw(
    path: Path, image: np.ndarray, truth: "Truth", detected: "Detected", labels: tuple[str, ...]
) -> None:
    """Writes one PNG: the annotated boxes on the left, the detected ones on the right."""
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = detected.scores >= _SHOWN_SCORE
    scores = detected.scores[shown]
    _panel(left, image, f"truth: {len(truth.classes)}")
    _panel(right, image, f"detected: {len(scores)} (score >= {_SHOWN_SCORE})")
    for box, k in zip(truth.boxes_xyxy, truth.classes, strict=True):
        _box(left, box, labels[k], k)
    for box, k, score in zip(
        detected.boxes_xyxy[shown], detected.classes[shown], scores, strict=True
    ):
        _box(right, box, f"{labels[k]} {score:.2f}", k)
    figure.suptitle(truth.image_id)
    figure.savefig(path, dpi=80)


def _panel(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image)
    axes.set_title(title)
    axes.set_axis_off()


def _box(axes: Axes, box_xyxy: np.ndarray, text: str, k: int) -> None:
    x1, y1, x2, y2 = box_xyxy
    colour = _COLOURS[k % len(_COLOURS)]
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, lw=1.5))
    plate = {"facecolor": colour, "edgecolor": "none", "pad": 1}
    axes.text(x1, y1 - 3, text, color="white", fontsize=7, bbox=plate)
