"""What the report and TensorBoard show of a split, worked out once."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from training.data.records import Manifest
from training.evaluation import outcomes, pictures
from training.evaluation.outcomes import Curve, Outcome
from training.evaluation.score import IOUS, Detected, Metrics, Truth
from training.input import input_pipeline


@dataclass(frozen=True)
class Findings:
    """A split, what was detected on it, and the score thresholds that follow.

    truth, detected: by image id, in the records' order.
    curves: per class, for each of IOUS.
    threshold: the best one for all classes together; thresholds: the best one of each class that
        has objects.
    """

    manifest: Manifest
    truth: dict[str, Truth]
    detected: dict[str, Detected]
    metrics: Metrics
    curves: tuple[dict[int, Curve], ...]
    threshold: float
    thresholds: dict[int, float]

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        truth: Iterable[Truth],
        detected: Iterable[Detected],
        metrics: Metrics,
    ) -> "Findings":
        """The findings of a split, from its annotations, its detections and their metrics."""
        truths = {image.image_id: image for image in truth}
        found = {image.image_id: image for image in detected}
        curves = tuple(
            outcomes.curves(truths.values(), found.values(), metrics, iou) for iou in IOUS
        )
        threshold = outcomes.best_threshold(curves[0].values())
        thresholds = {k: outcomes.best_threshold([c]) for k, c in curves[0].items() if c.truths}
        return cls(manifest, truths, found, metrics, curves, threshold, thresholds)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @functools.cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What became of each image's objects and detections at `threshold`, by image id."""
        matches = self.metrics.matches
        return {
            name: outcomes.outcome(truth, self.detected[name], matches[name][0], self.threshold)
            for name, truth in self.truth.items()
        }

    def rates(self, k: int | None = None) -> dict[str, float]:
        """Precision, recall and F1 of a class at its own threshold; for None their means over all
        classes at the common one."""
        curves = [self.curves[0][c] for c in self.thresholds if k in (None, c)]
        threshold = self.threshold if k is None else self.thresholds[k]
        rates = [curve.at(np.array([threshold])) for curve in curves]
        return {
            name: float(np.mean([getattr(of_class, name) for of_class in rates])) if rates else 0.0
            for name in ("precision", "recall", "f1")
        }

    def draw_panels(
        self, image_id: str, encoded: bytes | tf.Tensor, side: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image with its annotated boxes, and with the detections, as `pictures.draw_panels`."""
        image = input_pipeline.decode_image(encoded).numpy()
        known = (self.truth[image_id], self.detected[image_id], self.outcomes[image_id])
        return pictures.draw_panels(image, *known, self.labels, side)
