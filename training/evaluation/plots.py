"""The report's plots, with matplotlib: SVG that follow the reader's light or dark page."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from training.evaluation.outcomes import THRESHOLDS, Curve
from training.evaluation.pictures import COLOURS, colour
from training.evaluation.reliability import Reliability
from training.evaluation.score import IOUS

_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "training",  # the same plot is the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.color": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
)
_THEME = (
    "<style>svg{color:#1c2128}text{font-family:system-ui,sans-serif!important}"
    "@media(prefers-color-scheme:dark){svg{color:#dfe5ec}}</style>"
)


@matplotlib.rc_context(_STYLE)
def plot_precision_recall(
    path: Path, name: str, k: int, curves: Sequence[Curve], best: float
) -> None:
    """One class: COCO's precision over recall for each of IOUS, and the point at `best`."""
    figure = _figure(4.4, 3.6)
    axes = figure.subplots()
    for curve, iou, style in zip(curves, IOUS, ("-", (0, (4, 2))), strict=True):
        recall, precision = curve.envelope()
        axes.step(recall, precision, where="pre", color=colour(k), linestyle=style,
                  label=f"IoU {iou}")  # fmt: skip
    point = curves[0].at(np.array([best]))
    axes.plot(point.recall, point.precision, "o", color=_INK, ms=5, label=f"score {best:.2f}")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=name)
    axes.legend(loc="lower left", fontsize=9)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def plot_f1(path: Path, curves: dict[int, Curve], labels: Sequence[str], best: float) -> None:
    """F1 of every class over the score threshold, their mean, and where that is highest."""
    figure = _figure(5.2, 3.6)
    axes = figure.subplots()
    rates = {k: curve.at(THRESHOLDS).f1 for k, curve in curves.items() if curve.truths}
    few = len(rates) <= len(COLOURS)  # else grey lines behind their mean
    for k, f1 in rates.items():
        look: dict[str, Any] = (
            {"color": colour(k), "label": labels[k]} if few else {"color": _INK, "alpha": 0.2}
        )
        axes.plot(THRESHOLDS, f1, lw=1.5, **look)
    if len(rates) > 1:
        mean = np.mean(list(rates.values()), axis=0)
        axes.plot(THRESHOLDS, mean, color=_INK, lw=2.2, label="mean")
    axes.axvline(best, color=_INK, lw=1, linestyle=":")
    axes.annotate(f"{best:.2f}", (best, 0.02), (4, 0), textcoords="offset points")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score threshold", ylabel="F1")
    axes.set_title("F1 over score threshold")
    if rates and few:
        axes.legend(loc="lower left", fontsize=9)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def plot_reliability(path: Path, found: Reliability) -> None:
    """The share of right detections over their mean score, as they are and calibrated."""
    figure = _figure(5.2, 3.6)
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=_INK, lw=1, linestyle=":", label="a probability")
    for k, (name, bins) in enumerate(
        {"as it is": found.bins, "calibrated": found.calibrated}.items()
    ):
        counts, scores, shares = bins[bins[:, 0] > 0].T
        sizes = 20 + 180 * counts / counts.max() if len(counts) else counts
        axes.plot(scores, shares, color=colour(k), lw=1.5, linestyle=("-", "--")[k], label=name)
        axes.scatter(scores, shares, s=sizes, color=colour(k), marker="os"[k], alpha=0.6, lw=0)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="score", ylabel="share that is right")
    axes.set_title("Reliability")
    axes.legend(loc="lower right", fontsize=9)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def plot_history(
    path: Path, title: str, lines: dict[str, tuple[np.ndarray, np.ndarray]], log: bool = False
) -> None:
    """Scalars over training steps: for each name (steps [N], values [N])."""
    figure = _figure(5.2, 3.2)
    axes = figure.subplots()
    for k, (name, (steps, values)) in enumerate(lines.items()):
        few: dict[str, Any] = {"marker": "o", "ms": 3} if len(steps) < 30 else {}
        axes.plot(steps, values, color=colour(k), lw=1.3, label=name, **few)
    axes.set(title=title, xlabel="step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if log:
        axes.set_yscale("log", subs=[])
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    if len(lines) > 1:
        axes.legend(fontsize=9)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def plot_rates(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggested: float
) -> bytes:
    """A PNG of losses over learning rates, [N] each, and of the rate that is suggested."""
    figure = _figure(7.2, 4.2)
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color=colour(0), alpha=0.4, ms=5, label="loss of a step")
    axes.plot(rates, smoothed, color=colour(0), lw=1.8, label="smoothed")
    axes.axvline(suggested, color=colour(1), lw=1.5, linestyle="--",
                 label=f"suggested: {suggested:g}")  # fmt: skip
    highest = 1.5 * max(smoothed[0], np.nanmin(smoothed))
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0, highest))
    axes.legend(fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150, facecolor="white")
    return picture.getvalue()


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")  # inches


def _save(figure: Figure, path: Path) -> None:
    """An SVG whose ink is the page's text colour, light or dark."""
    text = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue().replace(_INK, "currentColor")
    path.write_text(svg.replace("<defs>", f"{_THEME}<defs>", 1), encoding="utf-8")
