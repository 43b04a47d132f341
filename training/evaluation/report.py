"""What a person looks at: a report folder that opens in a browser, and summaries for TensorBoard.

FOLDER/index.html   the report; it needs nothing but this folder
FOLDER/*.svg        its plots
FOLDER/worst/*.jpg  the images with the most mistakes, annotated and detected boxes
FOLDER/report.json  the same figures for programs, and the list of these files
"""

import io
import json
import string
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.image import metadata as image_plugin
from tensorboard.plugins.pr_curve import metadata as pr_curve

from training import input_pipeline
from training.data import records
from training.errors import TrainingError
from training.evaluation import outcomes, pictures
from training.evaluation.evaluate import (
    TRAINED_ON,
    Detected,
    Metrics,
    Truth,
)
from training.evaluation.outcomes import (
    IOUS,
    THRESHOLDS,
    Curve,
    Outcome,
)

WORST = 20  # images
_WORST_SIDE = (640, 1600)  # pixels, the longer side of each is brought between these
_WATCHED = 4  # validation images in TensorBoard
_WATCHED_SIDE = (320, 480)  # pixels
_GENERATOR = "python -m training"
# title: (tags without their group, logarithmic); one plot each, where there is such a scalar
_HISTORY = {
    "Loss": (("train/loss", "train/localisation", "train/classification"), True),
    "mAP": (("val/mAP@0.5", "val/mAP@[.5:.95]"), False),
    "Photos trained on": ((f"val/mAP@0.5{TRAINED_ON}", f"val/mAP@[.5:.95]{TRAINED_ON}"), False),
    "Learning rate": (("train/learning_rate",), False),
    "Images per second": (("train/images_per_second",), False),
}


@dataclass(frozen=True)
class _Findings:
    """What the page and TensorBoard show, worked out once.

    curves: per class for each of IOUS. threshold: for all classes, and thresholds: for each.
    """

    labels: tuple[str, ...]
    metrics: Metrics
    curves: tuple[dict[int, Curve], ...]
    threshold: float
    thresholds: dict[int, float]


# ---------------------------------------------------------------- the folder


def write(
    folder: Path,
    manifest: records.Manifest,
    truth: list[Truth],
    detected: list[Detected],
    metrics: Metrics,
    tensorboard: Path | None = None,
) -> Path:
    """Write the report and return its index.html; an older report in `folder` is replaced.

    Args:
        manifest, truth, detected: the split, what it is annotated with, what was found.
        metrics: what `evaluate.score` made of them.
        tensorboard: a run's folder of event files, for the curves of its training.

    Raises:
        TrainingError: `folder` holds something else than a report.
    """
    tf.summary.flush()  # of a training that is still open
    folder = folder.resolve()  # "." has no name to put another beside
    check_replaceable(folder)
    findings = _findings(manifest.labels, truth, detected, metrics)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        _write(new, manifest, truth, detected, findings, tensorboard)
        check_replaceable(folder)
        if folder.exists():
            folder.rename(old)  # this and the next take no room on the disk
        new.rename(folder)
    return folder / "index.html"


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but an older report.

    Raises:
        TrainingError: it does.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise TrainingError(f"{folder} is a file: expected a folder for the report")
    foreign = sorted(_files(folder) - _own_files(folder))
    if foreign:
        raise TrainingError(
            f"{folder} holds {foreign[0]}, which is no part of a report, and is left as it is: "
            "choose another folder"
        )


def _files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def _own_files(folder: Path) -> set[str]:
    try:
        document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        own = document["generator"] == _GENERATOR
        return {"report.json", *map(str, document["files"])} if own else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _write(
    folder: Path,
    manifest: records.Manifest,
    truth: list[Truth],
    detected: list[Detected],
    findings: _Findings,
    tensorboard: Path | None,
) -> None:
    (folder / "worst").mkdir(parents=True)
    images = _images(truth, detected, findings)
    matrix = outcomes.confusion(truth, images.detected, images.outcomes, len(findings.labels))
    worst = {
        image_id: images.outcomes[image_id] for image_id in outcomes.worst(images.outcomes, WORST)
    }
    _draw_worst(folder, manifest, images, findings.labels, list(worst))
    plots = _draw_plots(folder, findings)
    history = _draw_history(folder, tensorboard)
    page = _page(manifest, truth, findings, plots, history, matrix, worst)
    (folder / "index.html").write_text(page, encoding="utf-8")
    document = {
        "generator": _GENERATOR,
        "split": manifest.split,
        "fingerprint": manifest.fingerprint,
        "metrics": findings.metrics.to_dict(),
        "score_threshold": findings.threshold,
        "score_thresholds": {findings.labels[k]: t for k, t in findings.thresholds.items()},
        "confusion": {"labels": [*findings.labels, "background"], "rows": matrix.tolist()},
        "worst": {image_id: outcome.mistakes for image_id, outcome in worst.items()},
        "files": sorted(_files(folder)),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")


def _findings(
    labels: tuple[str, ...], truth: list[Truth], detected: list[Detected], metrics: Metrics
) -> _Findings:
    curves = tuple(outcomes.curves(truth, detected, metrics, iou) for iou in IOUS)
    threshold = outcomes.best_threshold(curves[0].values())
    thresholds = {k: outcomes.best_threshold([c]) for k, c in curves[0].items() if c.truths}
    return _Findings(labels, metrics, curves, threshold, thresholds)


@dataclass(frozen=True)
class _Images:
    """The images of a split by id, in the records' order."""

    truth: dict[str, Truth]
    detected: dict[str, Detected]
    outcomes: dict[str, Outcome]


def _images(truth: Sequence[Truth], detected: Sequence[Detected], findings: _Findings) -> _Images:
    found = {image.image_id: image for image in detected}
    matches, threshold = findings.metrics.matches, findings.threshold
    return _Images(
        {image.image_id: image for image in truth},
        found,
        {
            one.image_id: outcomes.outcome(
                one, found[one.image_id], matches[one.image_id][0], threshold
            )
            for one in truth
        },
    )


# ---------------------------------------------------------------- pictures


def _draw_worst(
    folder: Path,
    manifest: records.Manifest,
    images: _Images,
    labels: tuple[str, ...],
    worst: Sequence[str],
) -> None:
    """Reads the split once more, and decodes only these images."""
    for example in records.dataset(manifest).as_numpy_iterator():
        image_id = example["image_id"].decode()
        if image_id in worst:
            panels = _panels(example["encoded"], image_id, images, labels)
            for panel, path in zip(panels, _worst_paths(worst.index(image_id)), strict=True):
                Image.fromarray(panel).save(folder / path, quality=88)


def _panels(
    encoded: bytes | tf.Tensor,
    image_id: str,
    images: _Images,
    labels: tuple[str, ...],
    side: tuple[int, int] = _WORST_SIDE,
) -> tuple[np.ndarray, np.ndarray]:
    image = input_pipeline.decode_image(encoded).numpy()
    known = (images.truth[image_id], images.detected[image_id], images.outcomes[image_id])
    return pictures.panels(image, *known, labels, side)


def _worst_paths(place: int) -> tuple[str, str]:
    return f"worst/{place + 1:02d}-truth.jpg", f"worst/{place + 1:02d}-detected.jpg"


def _draw_plots(folder: Path, findings: _Findings) -> dict[str, str]:
    """File names of the plots, each with what it shows."""
    pictures.f1_over_threshold(
        folder / "f1.svg", findings.curves[0], findings.labels, findings.threshold
    )
    plots = {"f1.svg": "F1 over the score threshold"}
    for k, best in findings.thresholds.items():
        label, name = findings.labels[k], f"precision-recall-{k}.svg"
        curves = [of_iou.get(k, _no_curve()) for of_iou in findings.curves]
        pictures.precision_recall(folder / name, label, k, curves, best)
        plots[name] = f"Precision over recall, {label}"
    return plots


def _no_curve() -> Curve:
    return Curve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 0)


def _draw_history(folder: Path, tensorboard: Path | None) -> dict[str, str]:
    """File names of the plots of a training, each with what it shows; {} where nothing is known."""
    scalars = read_scalars(tensorboard) if tensorboard else {}
    plots = {}
    for title, (tags, log) in _HISTORY.items():
        lines = {tag.split("/")[1]: scalars[tag] for tag in tags if tag in scalars}
        if lines:
            name = f"training-{title.lower().replace(' ', '-')}.svg"
            pictures.history(folder / name, title, lines, log)
            plots[name] = f"{title} over training steps"
    return plots


def read_scalars(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every scalar of a run's event files: steps int [N], rising, and values float [N].

    A resumed run does some steps again; of each step the value that was written last counts.
    """
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}, purge_orphaned_data=False)
    events.Reload()
    scalars = {}
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name != "scalars":
            continue
        rows = sorted(events.Tensors(tag), key=lambda event: event.wall_time)
        values = {row.step: float(tf.make_ndarray(row.tensor_proto)) for row in rows}
        steps = sorted(values)
        scalars[tag] = np.array(steps), np.array([values[step] for step in steps])
    return scalars


# ---------------------------------------------------------------- the page


def _page(
    manifest: records.Manifest,
    truth: list[Truth],
    findings: _Findings,
    plots: dict[str, str],
    history: dict[str, str],
    matrix: np.ndarray,
    worst: dict[str, Outcome],
) -> str:
    template = string.Template(Path(__file__).with_name("report.html").read_text("utf-8"))
    f1, *pr = [_linked(name, text) for name, text in plots.items()]
    threshold = f"{findings.threshold:.2f}"
    return template.substitute(
        title="Detection report",
        subtitle=_subtitle(manifest, truth, findings.metrics),
        headline=_headline(findings),
        classes=_class_table(findings),
        advice=_advice(findings),
        f1_plot=f1,
        pr_plots="".join(pr),
        matrix_text=_MATRIX_TEXT.format(threshold=threshold),
        matrix=_matrix_table(findings.labels, matrix),
        training=_training(history),
        worst_title=_worst_title(len(worst), len(truth)),
        worst_text=_WORST_TEXT.format(threshold=threshold),
        worst=_LEGEND + _class_legend(findings.labels) + _worst_list(worst),
        footer=f"Data fingerprint {manifest.fingerprint}. The same figures for programs: "
        '<a href="report.json">report.json</a>.',
    )


_MATRIX_TEXT = (
    "Rows are what was annotated, columns what was detected with a score above {threshold}. "
    "A detection is right where COCO's matching, best score first, gives it an object of its class "
    "at an IoU of 0.5 or more: the diagonal. Then, best score first, each detection left over "
    "takes the object left over that it overlaps most, at the same IoU: one class taken for "
    "another. What is left after that was missed (last column) or is false (last row). Shades are "
    "shares of a row. Objects marked difficult, and what finds them, are left out."
)
_WORST_TEXT = (
    "The images with the most mistakes: missed objects and false detections together, at a score "
    "above {threshold} and an IoU of 0.5. One class taken for another is both. Not every mistake "
    "is the network's: an object that nobody annotated shows up as false. Click a picture for its "
    "full size."
)
_LEGEND = """<ul class="legend">
<li><svg viewBox="0 0 32 22"><rect x="2" y="2" width="28" height="18" fill="none"
stroke="currentColor" stroke-width="2"/></svg>right</li>
<li><svg viewBox="0 0 32 22"><rect x="2" y="2" width="28" height="18" fill="none"
stroke="currentColor" stroke-width="4" stroke-dasharray="7 4"/></svg>missed</li>
<li><svg viewBox="0 0 32 22"><path d="M2 2h28v18H2zl28 18M30 2 2 20" fill="none"
stroke="currentColor" stroke-width="3"/></svg>false</li>
<li><svg viewBox="0 0 32 22"><rect x="2" y="2" width="28" height="18" fill="none"
stroke="currentColor" stroke-width="3" stroke-dasharray="2 3"/></svg>difficult, does not count</li>
</ul>"""


def _subtitle(manifest: records.Manifest, truth: list[Truth], metrics: Metrics) -> str:
    boxes = sum(len(image.classes) for image in truth)
    difficult = sum(int(image.difficult.sum()) for image in truth)
    text = f"Split {escape(manifest.split)}: {_many(len(truth), 'image')}, "
    text += _many(boxes, "annotated object")
    text += f", {difficult} of them marked difficult" if difficult else ""
    return f"{text}; {metrics.held_out}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _headline(findings: _Findings) -> str:
    rates = _rates(findings)
    map50, map_ = findings.metrics.names
    figures = {
        map50: f"{findings.metrics.map50:.3f}",
        map_: f"{findings.metrics.map:.3f}",
        "mean F1": f"{rates['f1']:.3f}",
        "at score threshold": f"{findings.threshold:.2f}",
    }
    return "".join(
        f'<div class="card"><dt>{name}</dt><dd>{value}</dd></div>'
        for name, value in figures.items()
    )


def _rates(findings: _Findings, k: int | None = None) -> dict[str, float]:
    """Precision, recall and F1 of a class at its own threshold; of None the means at the one."""
    curves = [findings.curves[0][c] for c in findings.thresholds if k in (None, c)]
    threshold = findings.threshold if k is None else findings.thresholds[k]
    rates = [curve.at(np.array([threshold])) for curve in curves]
    return {
        name: float(np.mean([getattr(of_class, name) for of_class in rates])) if rates else 0.0
        for name in ("precision", "recall", "f1")
    }


def _class_table(findings: _Findings) -> str:
    metrics, curves = findings.metrics, findings.curves[0]
    total = sum(curve.truths for curve in curves.values())
    rows = [
        _class_row("all classes", total, (metrics.map50, metrics.map), findings.threshold,
                   _rates(findings), "all")
    ]  # fmt: skip
    for k, label in enumerate(findings.labels):
        if k in findings.thresholds:
            rates = _rates(findings, k)
            rows.append(
                _class_row(_chip(k) + escape(label), curves[k].truths, metrics.per_class[label],
                           findings.thresholds[k], rates)
            )  # fmt: skip
        else:
            rows.append(
                f"<tr><th>{_chip(k)}{escape(label)}</th><td>0</td>{'<td>&ndash;</td>' * 6}</tr>"
            )
    names = ("class", "objects", "AP@0.5", "AP@[.5:.95]", "score", "precision", "recall", "F1")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _class_row(
    name: str,
    truths: int,
    precisions: tuple[float, float],
    threshold: float,
    rates: dict[str, float],
    kind: str = "",
) -> str:
    cells = [f"{truths:,}", *(f"{x:.3f}" for x in precisions), f"{threshold:.2f}"]
    cells += [f"{rate:.3f}" for rate in rates.values()]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{kind}"><th>{name}</th>{body}</tr>'


def _chip(k: int) -> str:
    return f'<span class="chip" style="--chip:{pictures.colour(k)}"></span>'


def _advice(findings: _Findings) -> str:
    if not findings.thresholds:
        return "This split has no objects to find, so no threshold is better than another."
    rates = _rates(findings)
    each = ", ".join(
        f"{escape(findings.labels[k])} {t:.2f}" for k, t in list(findings.thresholds.items())[:20]
    )
    return (
        f"<strong>{findings.threshold:.2f}</strong> is the best one for all classes: their mean F1 "
        f"is {rates['f1']:.3f} there, with a precision of {rates['precision']:.3f} and a recall of "
        f"{rates['recall']:.3f}. A client asks for it with "
        f"<code>--score-threshold {findings.threshold:.2f}</code>. Best for each class alone: "
        f"{each}. Go lower where a missed object costs more than a false alarm, higher where it "
        "costs less."
    )


def _linked(name: str, text: str) -> str:
    return f'<a class="card" href="{name}"><img src="{name}" alt="{escape(text)}"></a>'


def _training(history: dict[str, str]) -> str:
    if not history:
        return ""
    plots = "".join(_linked(name, text) for name, text in history.items())
    return f'<h2>Training</h2>\n<div class="plots wide">{plots}</div>\n'


def _matrix_table(labels: tuple[str, ...], matrix: np.ndarray) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in [*labels, "missed"])
    names = [*map(escape, labels), "background"]
    rows = []
    for row, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        shares = counts / max(counts.sum(), 1)
        cells = [
            _matrix_cell(count, share, row == column)
            for column, (count, share) in enumerate(zip(counts, shares, strict=True))
        ]
        if row == len(labels):
            cells[-1] = "<td style='--share:0;--hue:0,0,0'></td>"
        rows.append(f"<tr><th>{name}</th>{''.join(cells)}</tr>")
    return (
        f'<table class="matrix"><thead><tr><th>annotated \\ detected</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _matrix_cell(count: int, share: float, right: bool) -> str:
    hue = "--right" if right else "--wrong"
    kind = "" if count else ' class="none"'
    return f'<td{kind} style="--hue:var({hue});--share:{0.75 * share:.2f}">{count:,}</td>'


def _worst_title(worst: int, images: int) -> str:
    if not worst:
        return "No mistakes"
    return (
        f"The {_many(worst, 'worst image')[0:]}" if worst < images else "All images with mistakes"
    )


def _class_legend(labels: Sequence[str]) -> str:
    """Nothing where there are more classes than colours: the pictures then name them."""
    if len(labels) > len(pictures.COLOURS):
        return ""
    items = "".join(f"<li>{_chip(k)}{escape(label)}</li>" for k, label in enumerate(labels))
    return f'<ul class="legend">{items}</ul>'


def _worst_list(worst: dict[str, Outcome]) -> str:
    items = (_worst_item(place, *item) for place, item in enumerate(worst.items()))
    return f'<ol class="worst">{"".join(items)}</ol>'


def _worst_item(place: int, image_id: str, outcome: Outcome) -> str:
    facts = f"{int(outcome.missed.sum())} missed, {int(outcome.false.sum())} false, "
    facts += f"{int(outcome.right.sum())} right"
    figures = "".join(
        f'<figure><a href="{path}"><img src="{path}" alt="{escape(image_id)}: {text}"></a>'
        f"<figcaption>{text}</figcaption></figure>"
        for path, text in zip(_worst_paths(place), ("annotated", "detected"), strict=True)
    )
    return (
        f'<li class="card"><header><h3>{place + 1}. {escape(image_id)}</h3>'
        f'<span class="facts">{facts}</span></header><div class="pair">{figures}</div></li>'
    )


# ---------------------------------------------------------------- TensorBoard


def summaries(
    manifest: records.Manifest,
    truth: list[Truth],
    detected: list[Detected],
    metrics: Metrics,
    step: int,
) -> None:
    """Write a validation to the default tf.summary writer; nothing where there is none.

    Scalars val/mAP@0.5 and val/mAP@[.5:.95], overall and (val/mAP@0.5/LABEL) per class, and
    val/F1 with val/score_threshold where it is best; the first images of the split with annotated
    boxes left and detections right; precision-recall curves at an IoU of 0.5.
    """
    if not tf.summary.should_record_summaries():
        return
    findings = _findings(manifest.labels, truth, detected, metrics)
    _scalars(findings, step)
    _watched_images(manifest, truth, detected, findings, step)
    for k, curve in findings.curves[0].items():
        if curve.truths:
            _pr_curve(findings.labels[k], curve, step)


def _scalars(findings: _Findings, step: int) -> None:
    metrics = findings.metrics
    figures = {"": (metrics.map50, metrics.map)}
    figures |= {f"/{label}": values for label, values in metrics.per_class.items()}
    scalars = {
        f"val/{name}{label}": value
        for label, values in figures.items()
        for name, value in zip(metrics.names, values, strict=True)
    }
    scalars |= {"val/F1": _rates(findings)["f1"], "val/score_threshold": findings.threshold}
    for name, value in scalars.items():
        tf.summary.scalar(name, value, step=step)


def _watched_images(
    manifest: records.Manifest,
    truth: list[Truth],
    detected: list[Detected],
    findings: _Findings,
    step: int,
) -> None:
    # Not records.dataset: its parallel reading would start and stop for four images.
    for serialized in tf.data.TFRecordDataset(manifest.paths).take(_WATCHED):
        example = records.parse(serialized)
        image_id = example["image_id"].numpy().decode()
        one = [image for image in truth if image.image_id == image_id]
        images = _images(one, detected, findings)
        panels = _panels(example["encoded"], image_id, images, findings.labels, _WATCHED_SIDE)
        _jpeg(f"val/{image_id}", np.hstack(panels), step)


def _jpeg(tag: str, picture: np.ndarray, step: int) -> None:
    """tf.summary.image would write a PNG of six times the size, in six times the time."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88)
    height, width = picture.shape[:2]
    metadata = image_plugin.create_summary_metadata(None, "annotated left, detected right")
    row = [str(width), str(height), file.getvalue()]
    tf.summary.write(tag, tf.constant(row), step=step, metadata=metadata)


def _pr_curve(label: str, curve: Curve, step: int) -> None:
    """As TensorBoard's PR Curves dashboard reads it: six rows over evenly spaced thresholds."""
    rates = curve.at(THRESHOLDS)
    nothing = np.zeros(len(THRESHOLDS))  # true negatives: of boxes there are endlessly many
    rows = (rates.right, rates.false, nothing, rates.missed, rates.precision, rates.recall)
    metadata = pr_curve.create_summary_metadata(label, "at an IoU of 0.5", len(THRESHOLDS))
    tf.summary.write(
        f"val/{label}/pr_curves", np.stack(rows).astype(np.float32), step=step, metadata=metadata
    )
