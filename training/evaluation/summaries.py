"""What TensorBoard shows of a validation."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins.image import metadata as image_plugin
from tensorboard.plugins.pr_curve import metadata as pr_curve

from training.data import records
from training.evaluation.findings import Findings
from training.evaluation.outcomes import THRESHOLDS, Curve

WATCHED = 4  # validation images in TensorBoard
_WATCHED_SIDE = (320, 480)  # pixels


def write_summaries(found: Findings, step: int) -> None:
    """Write a validation to the default tf.summary writer; nothing where there is none.

    Scalars val/mAP@0.5 and val/mAP@[.5:.95], overall and (val/mAP@0.5/LABEL) per class, and
    val/F1 with val/score_threshold where it is best; the first images of the split with annotated
    boxes left and detections right; precision-recall curves at an IoU of 0.5.
    """
    if not tf.summary.should_record_summaries():
        return
    _write_scalars(found, step)
    _write_images(found, step)
    for k, curve in found.curves[0].items():
        if curve.truths:
            _write_curve(found.labels[k], curve, step)


def scalars_of(found: Findings) -> dict[str, float]:
    """The figures of a validation, by the names that they have in TensorBoard."""
    metrics = found.metrics
    figures = {"": (metrics.map50, metrics.map)}
    figures |= {f"/{label}": values for label, values in metrics.per_class.items()}
    scalars = {
        f"val/{name}{label}": value
        for label, values in figures.items()
        for name, value in zip(metrics.names, values, strict=True)
    }
    return scalars | {"val/F1": found.rates()["f1"], "val/score_threshold": found.threshold}


def _write_scalars(found: Findings, step: int) -> None:
    for name, value in scalars_of(found).items():
        tf.summary.scalar(name, value, step=step)


def _write_images(found: Findings, step: int) -> None:
    # Not records.dataset: its parallel reading would start and stop for four images.
    for serialized in tf.data.TFRecordDataset(found.manifest.paths).take(WATCHED):
        example = records.parse(serialized)
        image_id = example["image_id"].numpy().decode()
        panels = found.draw_panels(image_id, example["encoded"], _WATCHED_SIDE)
        _write_jpeg(f"val/{image_id}", np.hstack(panels), step)


def _write_jpeg(tag: str, picture: np.ndarray, step: int) -> None:
    """Write a picture. tf.summary.image would take six times the space and the time, for a PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88)
    height, width = picture.shape[:2]
    metadata = image_plugin.create_summary_metadata(None, "annotated left, detected right")
    row = [str(width), str(height), file.getvalue()]
    tf.summary.write(tag, tf.constant(row), step=step, metadata=metadata)


def _write_curve(label: str, curve: Curve, step: int) -> None:
    """Write six rows over evenly spaced thresholds, as TensorBoard's PR Curves dashboard reads."""
    rates = curve.at(THRESHOLDS)
    nothing = np.zeros(len(THRESHOLDS))  # true negatives: of boxes there are endlessly many
    rows = (rates.right, rates.false, nothing, rates.missed, rates.precision, rates.recall)
    metadata = pr_curve.create_summary_metadata(label, "at an IoU of 0.5", len(THRESHOLDS))
    tf.summary.write(
        f"val/{label}/pr_curves", np.stack(rows).astype(np.float32), step=step, metadata=metadata
    )
