"""A report folder that opens in a browser.

FOLDER/index.html   the report; it needs nothing but this folder
FOLDER/*.svg        its plots
FOLDER/worst/*.jpg  the images with the most mistakes, annotated and detected boxes
FOLDER/advice/*.jpg those that show what to do next, where they are not among the worst
FOLDER/photos/*     both as the records hold them, to be corrected
FOLDER/report.json  the same figures for programs, and the list of these files
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from training import events
from training.data import records
from training.errors import TrainingError
from training.evaluation import outcomes, page, plots
from training.evaluation.findings import Findings
from training.evaluation.outcomes import Curve
from training.evaluation.score import TRAINED_ON

WORST = 20  # images
_WORST_SIDE = (640, 1600)  # pixels, the longer side of each is brought between these
_GENERATOR = "python -m training"
# title: (tags without their group, logarithmic); one plot each, where there is such a scalar
_HISTORY = {
    "Loss": (("train/loss", "train/localisation", "train/classification"), True),
    "mAP": (("val/mAP@0.5", "val/mAP@[.5:.95]"), False),
    "Photos trained on": ((f"val/mAP@0.5{TRAINED_ON}", f"val/mAP@[.5:.95]{TRAINED_ON}"), False),
    "Learning rate": (("train/learning_rate",), False),
    "Images per second": (("train/images_per_second",), False),
}


def write_report(folder: Path, found: Findings, tensorboard: Path | None = None) -> Path:
    """Write the report and return its index.html; an older report in `folder` is replaced.

    tensorboard: a run's folder of event files, for the curves of its training.

    Raises:
        TrainingError: `folder` holds something else than a report.
    """
    tf.summary.flush()  # of a training that is still open
    return replace_folder(folder, lambda new: _write_files(new, found, tensorboard))


def replace_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder with an index.html, and return that; an older report is replaced once all of
    it is written.

    write: makes the folder that it is given, with `write_document` last of all.

    Raises:
        TrainingError: `folder` holds something else than a report.
    """
    folder = folder.resolve()  # "." has no name to put another beside
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        write(new)
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


def _write_files(folder: Path, found: Findings, tensorboard: Path | None) -> None:
    folder.mkdir()
    worst = outcomes.worst(found.outcomes, WORST)
    paths = page.picture_paths(worst, (name for each in found.advice for name in each.images))
    _draw_images(folder, found, paths)
    matrix = outcomes.confusion(
        found.truth.values(), found.detected, found.outcomes, len(found.labels)
    )
    drawn, history = _draw_plots(folder, found), _draw_history(folder, tensorboard)
    html = page.render_page(found, drawn, history, matrix, worst, paths)
    (folder / "index.html").write_text(html, encoding="utf-8")
    document = {
        "split": found.manifest.split,
        "fingerprint": found.manifest.fingerprint,
        "metrics": found.to_dict(),
        "score_threshold": found.threshold,
        "score_thresholds": {found.labels[k]: t for k, t in found.thresholds.items()},
        "confusion": {"labels": [*found.labels, "background"], "rows": matrix.tolist()},
        "worst": {image_id: found.outcomes[image_id].mistakes for image_id in worst},
    }
    write_document(folder, document)


def write_document(folder: Path, figures: dict[str, Any]) -> None:
    """Write the figures for programs, with the list of files by which a report is known."""
    document = {"generator": _GENERATOR} | figures | {"files": sorted(_files(folder))}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")


def _draw_images(folder: Path, found: Findings, paths: dict[str, tuple[str, ...]]) -> None:
    """Read the split once more, and decode only these images."""
    for example in records.dataset(found.manifest).as_numpy_iterator():
        image_id = example["image_id"].decode()
        if image_id in paths:
            panels = found.draw_panels(image_id, example["encoded"], _WORST_SIDE)
            for panel, path in zip(panels, paths[image_id][:2], strict=True):
                (folder / path).parent.mkdir(exist_ok=True)
                Image.fromarray(panel).save(folder / path, quality=88)
            (folder / "photos").mkdir(exist_ok=True)
            (folder / paths[image_id][2]).write_bytes(example["encoded"])


def _draw_plots(folder: Path, found: Findings) -> dict[str, str]:
    """File names of the plots, each with what it shows; F1's is the first."""
    curves, labels = found.curves, found.labels
    plots.plot_f1(folder / "f1.svg", curves[0], labels, found.threshold)
    drawn = {"f1.svg": "F1 over the score threshold"}
    if found.reliability:
        plots.plot_reliability(folder / page.RELIABILITY, found.reliability)
    for k, best in found.thresholds.items():
        name = f"precision-recall-{k}.svg"
        of_class = [of_iou.get(k, _NO_CURVE) for of_iou in curves]
        plots.plot_precision_recall(folder / name, labels[k], k, of_class, best)
        drawn[name] = f"Precision over recall, {labels[k]}"
    return drawn


_NO_CURVE = Curve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 0)


def _draw_history(folder: Path, tensorboard: Path | None) -> dict[str, str]:
    """File names of the plots of a training, each with what it shows; {} where nothing is known."""
    scalars = events.read_scalars(tensorboard) if tensorboard else {}
    drawn = {}
    for title, (tags, log) in _HISTORY.items():
        lines = {tag.split("/")[1]: scalars[tag] for tag in tags if tag in scalars}
        if lines:
            name = f"training-{title.lower().replace(' ', '-')}.svg"
            plots.plot_history(folder / name, title, lines, log)
            drawn[name] = f"{title} over training steps"
    return drawn
