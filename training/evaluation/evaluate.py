"""`training evaluate`: mAP of a run, an exported network or a server, and a report of it."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from training.data import records
from training.data.trained_on import TrainedOn
from training.errors import TrainingError
from training.evaluation import measure, report, score
from training.evaluation.findings import Findings
from training.evaluation.operating_points import read_wanted
from training.evaluation.score import Detected
from training.network import onnx_network
from training.network.presets import Resize
from training.run_folder import read_description, trained_on

_FOLDER = tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")
_OF_NETWORK = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: the network's)")
_FILE = tyro.conf.arg(metavar="FILE", help_behavior_hint="")
_NONE = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")


@dataclass(frozen=True)
class EvaluateSettings:
    """Score a trained run, an exported network, or a server's detections on annotated photos."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote."""
    run: Annotated[Path | None, _FOLDER] = None
    """Folder of a training run, to be scored with its newest checkpoint."""
    onnx: Annotated[Path | None, _FILE] = None
    """Instead of a run: the model.onnx of an artifact, of whatever precision."""
    detections: Annotated[Path | None, _FILE] = None
    """Instead of a run: what `client detect --json --score-threshold 0.01` printed."""
    split: str = "val"
    """Which split to score on."""
    report: Annotated[Path | None, _FOLDER] = None
    """Folder for a report: curves, confusion matrix, the twenty worst images. Replaces an older."""
    iou_threshold: Annotated[float | None, _OF_NETWORK] = None
    """Without --detections: of two boxes of a class that overlap more, NMS keeps the better."""
    at_precision: Annotated[float | None, _NONE] = None
    """Also tell the score threshold of each class that gives this precision, and the recall."""
    at_recall: Annotated[float | None, _NONE] = None
    """The same for this recall."""
    json: bool = False
    """Print one JSON document instead of a table."""


def evaluate_detector(settings: EvaluateSettings) -> int:
    """Print mAP, from 0 to 1, and write the report where one is wanted; gives 0.

    Raises:
        TrainingError: the records or what is to be measured cannot be used.
    """
    started = time.perf_counter()
    if not 0 <= (settings.iou_threshold or 0) <= 1:
        raise TrainingError(f"--iou-threshold must be 0 to 1, got {settings.iou_threshold}")
    wanted = read_wanted(settings.at_precision, settings.at_recall)
    if settings.report:
        report.check_replaceable(settings.report)  # so that nobody waits for a refusal
    manifest = records.load_manifest(settings.records, settings.split)
    truth = measure.read_truth(manifest)
    if not score.is_measurable(truth):
        raise TrainingError(
            f"{settings.records}: nothing to measure: none of the {len(truth)} images of "
            f"{settings.split} has an object to find; annotate some, or hold out others with "
            "`python -m training records --resplit`"
        )
    detected, side, resize = _detections(settings, manifest)
    metrics = score.score_detections(truth, detected, manifest.labels)
    metrics = measure.label_metrics(metrics, manifest, _trained_on(settings))
    found = Findings.of(manifest, truth, detected, metrics).with_details(side, resize)
    found = replace(found, wanted=wanted)
    print(json.dumps(found.to_dict(), indent=2) if settings.json else found.format_tables())
    notes = sys.stderr if settings.json else sys.stdout
    if settings.run and read_description(settings.run).get("chosen_on") == settings.split:
        print(f"{settings.run} was chosen on {settings.split}: a little too high", file=notes)
    print(f"{metrics.images} images in {time.perf_counter() - started:.1f} s", file=notes)
    if settings.report:
        curves = settings.run / "tensorboard" if settings.run else None
        page = report.write_report(settings.report, found, curves)
        print(f"report: {page}", file=notes)
    return 0


def _detections(
    settings: EvaluateSettings, manifest: records.Manifest
) -> tuple[list[Detected], int, Resize]:
    """What was found, and the side of the network's input, 0 where it is not known."""
    given = [settings.run, settings.onnx, settings.detections]
    if sum(source is not None for source in given) != 1:
        raise TrainingError("give either --run, --onnx or --detections, one of the three")
    if settings.detections:
        truth = measure.read_truth(manifest)
        return read_detections(settings.detections, manifest.labels, truth), 0, "stretch"
    if settings.onnx:
        exported = onnx_network.load_onnx(settings.onnx)
        manifest.check_labels(settings.onnx, exported.labels)
        step = measure.onnx_step(exported, settings.iou_threshold)
        seen = exported.input_size, exported.resize
        return measure.detect_objects(step, manifest, *seen, True), *seen
    assert settings.run
    detected, preset = measure.detect_with_run(settings.run, manifest, settings.iou_threshold)
    return detected, preset.input_size, preset.resize


def _trained_on(settings: EvaluateSettings) -> TrainedOn:
    """What a run or a network says of itself; detections say nothing."""
    if settings.run:
        return trained_on(settings.run)
    return onnx_network.load_onnx(settings.onnx).trained_on if settings.onnx else TrainedOn()


def read_detections(
    path: Path, labels: tuple[str, ...], truth: Sequence[score.Truth] = ()
) -> list[Detected]:
    """What `client detect --json` printed; an image's id is its file name without suffix.

    truth: images as they are stored; records may hold them smaller than the server saw them.
    """
    stored = {image.image_id: (image.width, image.height) for image in truth}
    try:
        return [_detected(photo, labels, stored) for photo in json.loads(path.read_text())]
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: expected the output of `python -m client detect --json`, got {error!r}"
        ) from None


def _detected(
    photo: dict[str, Any], labels: tuple[str, ...], stored: dict[str, tuple[int, int]]
) -> Detected:
    if "error" in photo:
        raise TrainingError(f"{photo['file']} has no detections: {photo['error']}")
    rows = photo["detections"]
    boxes = [[row["box"][side] for side in ("x1", "y1", "x2", "y2")] for row in rows]
    image_id, seen = Path(photo["file"]).stem, (photo["width"], photo["height"])
    scale = np.divide(stored.get(image_id, seen), seen).astype(np.float32)
    return Detected(
        image_id,
        np.array(boxes, np.float32).reshape(-1, 4) * np.tile(scale, 2),
        np.array([row["score"] for row in rows], np.float32),
        np.array([labels.index(row["label"]) for row in rows], int),
    )
