"""The report's page: figures in, HTML out. The text and its look are in report.html."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from training.evaluation import pictures
from training.evaluation.findings import Findings

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parents[1]),  # pages share their look
    autoescape=True,  # labels and image ids may hold anything
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


RELIABILITY = "reliability.svg"
# Where `python app.py --photos PHOTOS` opens one of them, by its name.
CORRECT = "http://127.0.0.1:7860/?photo="


def render_page(
    found: Findings,
    plots: dict[str, str],
    history: dict[str, str],
    matrix: np.ndarray,
    worst: list[str],
    paths: dict[str, tuple[str, ...]],
) -> str:
    """The page as HTML.

    Args:
        plots: file names with what they show, F1's first.
        history: the same of the training; {} where nothing is known of it.
        matrix: int [C + 1, C + 1], as `outcomes.confusion` gives it.
        worst: ids of the images with the most mistakes.
        paths: where the pictures of these lie, and of those that an advice names.
    """
    f1_plot, *pr_plots = plots.items()
    return TEMPLATES.get_template("evaluation/report.html").render(
        found=found,
        **make_legend(found.labels),
        subtitle=_subtitle(found),
        headline=_headline(found),
        rates=found.rates(),
        rows=_class_rows(found),
        f1_plot=f1_plot,
        reliability_plot=RELIABILITY,
        correct=CORRECT,
        pr_plots=pr_plots,
        matrix=_matrix_rows(found.labels, matrix),
        history=list(history.items()),
        worst=[(name, found.outcomes[name]) for name in worst],
        paths=paths,
    )


def make_legend(labels: Sequence[str]) -> dict[str, Any]:
    """What legend.html takes: the classes, their colours, and whether these tell them apart; else
    the pictures name the classes.
    """
    colours = [pictures.colour(k) for k in range(len(labels))]
    has_legend = len(colours) <= len(pictures.COLOURS)
    return {"labels": labels, "colours": colours, "has_legend": has_legend}


def picture_paths(worst: Iterable[str], others: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Where the pictures of images lie, by id: annotated, detected boxes, and the photo itself.

    Photos are called .jpg whatever they are: who opens one looks at its bytes.
    """
    places = {name: f"worst/{place:02d}" for place, name in enumerate(worst, start=1)}
    others = [name for name in dict.fromkeys(others) if name not in places]
    places |= {name: f"advice/{place:02d}" for place, name in enumerate(others, start=1)}
    return {
        name: (f"{x}-truth.jpg", f"{x}-detected.jpg", f"photos/{x.replace('/', '-')}.jpg")
        for name, x in places.items()
    }


def _subtitle(found: Findings) -> str:
    boxes = sum(len(image.classes) for image in found.truth.values())
    difficult = sum(int(image.difficult.sum()) for image in found.truth.values())
    text = f"Split {found.manifest.split}: {_many(len(found.truth), 'image')}, "
    text += _many(boxes, "annotated object")
    text += f", {difficult} of them marked difficult" if difficult else ""
    return f"{text}; {found.metrics.held_out}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _headline(found: Findings) -> dict[str, str]:
    map50, map_ = found.metrics.names
    return {
        map50: f"{found.metrics.map50:.3f}",
        map_: f"{found.metrics.map:.3f}",
        "mean F1": f"{found.rates()['f1']:.3f}",
        "at score threshold": f"{found.threshold:.2f}",
    }


@dataclass(frozen=True)
class _Row:
    """A line of the table of classes; `k` is None for all of them, no cells where it has none."""

    k: int | None
    truths: int
    cells: list[str]


def _class_rows(found: Findings) -> list[_Row]:
    metrics, curves = found.metrics, found.curves[0]
    total = sum(curve.truths for curve in curves.values())
    cells = _class_cells(metrics.format_figures(), found.threshold, found.rates())
    rows = [_Row(None, total, cells)]
    for k, label in enumerate(found.labels):
        if k not in found.thresholds:
            rows.append(_Row(k, 0, []))
            continue
        figures = metrics.format_figures(label)
        cells = _class_cells(figures, found.thresholds[k], found.rates(k))
        rows.append(_Row(k, curves[k].truths, cells))
    return rows


def _class_cells(
    precisions: tuple[str, str], threshold: float, rates: dict[str, float]
) -> list[str]:
    return [
        *precisions,
        f"{threshold:.2f}",
        *(f"{rate:.3f}" for rate in rates.values()),
    ]


def _matrix_rows(labels: tuple[str, ...], matrix: np.ndarray) -> list[tuple[str, list[Any]]]:
    """Of each row its name, and of each of its cells: count, share of the row, on the diagonal."""
    rows = []
    for row, (name, counts) in enumerate(zip([*labels, "background"], matrix, strict=True)):
        shares = counts / max(counts.sum(), 1)
        cells = enumerate(zip(counts, shares, strict=True))
        rows.append((name, [(count, share, row == column) for column, (count, share) in cells]))
    return rows
