"""What the report and TensorBoard show of a split, worked out once."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from training.data.records import Manifest
from training.data.trained_on import NOTHING, TrainedOn
from training.evaluation import measure, outcomes, pictures
from training.evaluation.advice import Advice, advise
from training.evaluation.measure import DetectionStep
from training.evaluation.operating_points import OperatingPoint, Wanted, find_point, points_table
from training.evaluation.outcomes import Curve, Outcome
from training.evaluation.reliability import Reliability, measure_reliability
from training.evaluation.score import (
    IOUS,
    Detected,
    Metrics,
    Truth,
    metrics_table,
    score_detections,
)
from training.evaluation.sizes import OfSize, scale_to_input, score_sizes, sizes_table
from training.evaluation.spread import measure_spread
from training.input import input_pipeline
from training.network.presets import Resize


@dataclass(frozen=True)
class Findings:
    """A split, what was detected on it, and the score thresholds that follow.

    truth, detected: by image id, in the records' order.
    curves: per class, for each of IOUS.
    threshold: the best one for all classes together; thresholds: the best one of each class that
        has objects.
    sizes: mAP of small, medium and large objects, by where their pixels are counted; empty where
        that was not measured.
    reliability: None where it was not measured, or there are too few detections to tell.
    wanted: a precision or a recall; None: none is.
    advice: what to do next; empty where that was not looked for.
    """

    manifest: Manifest
    truth: dict[str, Truth]
    detected: dict[str, Detected]
    metrics: Metrics
    curves: tuple[dict[int, Curve], ...]
    threshold: float
    thresholds: dict[int, float]
    sizes: dict[str, dict[str, OfSize]] = field(default_factory=dict)
    reliability: Reliability | None = None
    wanted: Wanted | None = None
    advice: tuple[Advice, ...] = ()

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

    @classmethod
    def measure(
        cls,
        step: DetectionStep,
        manifest: Manifest,
        side: int,
        resize: Resize,
        trained_on: TrainedOn = NOTHING,
    ) -> "Findings":
        """The findings of a network on a split, with details and a progress bar.

        Arguments as for `measure.detect_objects`, and what the network was trained on.
        """
        truth = measure.read_truth(manifest)
        detected = measure.detect_objects(step, manifest, side, resize, progress=True)
        metrics = score_detections(truth, detected, manifest.labels)
        metrics = measure.label_metrics(metrics, manifest, trained_on)
        return cls.of(manifest, truth, detected, metrics).with_details(side, resize)

    def with_details(self, side: int = 0, resize: Resize = "stretch") -> "Findings":
        """The same, with what takes seconds: the spread of mAP, and mAP by size.

        side, resize: of the network's input, as its preset has them; 0: not known.
        """
        truth, detected = list(self.truth.values()), list(self.detected.values())
        sizes = {"in the photo": score_sizes(truth, detected, self.labels)}
        if side:
            seen = scale_to_input(truth, truth, side, resize)
            found = scale_to_input(truth, detected, side, resize)
            sizes[f"at {side}x{side}, as seen"] = score_sizes(seen, found, self.labels)
        spread = measure_spread(truth, detected, self.labels)
        metrics = replace(self.metrics, spread=spread)
        reliability = measure_reliability(outcomes.judge(truth, detected, metrics))
        shown = self.truth, self.detected, self.outcomes
        advice = advise(*shown, self.labels, self.threshold, side, resize)
        return replace(self, metrics=metrics, sizes=sizes, reliability=reliability, advice=advice)

    @property
    def points(self) -> dict[str, OperatingPoint]:
        """By label, of the classes with objects, the threshold for what is wanted."""
        curves = self.curves[0]
        return {
            self.labels[k]: find_point(curves[k], self.wanted)
            for k in self.thresholds
            if self.wanted
        }

    def to_dict(self) -> dict[str, object]:
        """All figures, ready for json."""
        told: dict[str, object] = self.metrics_dict()
        if self.reliability:
            told["reliability"] = self.reliability.to_dict()
        return told | self.points_dict() | {"advice": [each.text for each in self.advice]}

    def points_dict(self) -> dict[str, object]:
        """What is wanted and the thresholds for it, ready for json; empty where nothing is."""
        if not self.wanted:
            return {}
        points = {label: point.to_dict() for label, point in self.points.items()}
        return {
            "operating_points": {"wanted": {self.wanted.rate: self.wanted.least}, "classes": points}
        }

    @property
    def facts(self) -> dict[str, object]:
        """mAP and on which photos, ready for json."""
        return self.metrics.to_dict() | {"fingerprint": self.manifest.fingerprint}

    def metrics_dict(self) -> dict[str, object]:
        """mAP, what it may be off, and mAP by size, ready for json."""
        names = self.metrics.names
        sizes = {
            where: {
                name: {"objects": each.objects, names[0]: each.map50, names[1]: each.map}
                for name, each in of_where.items()
            }
            for where, of_where in self.sizes.items()
        }
        return self.metrics.to_dict() | ({"sizes": sizes} if sizes else {})

    def format_tables(self) -> str:
        """mAP over all classes, of each class, and by size, a line each."""
        names = self.metrics.names
        tables = [sizes_table(sizes, where, names) for where, sizes in self.sizes.items()]
        if self.reliability:
            tables.append(str(self.reliability))
        if self.wanted:
            tables.append(points_table(self.points, self.wanted))
        if self.advice:
            tables.append("\n".join(["What to do next:", *(f"- {x.text}" for x in self.advice)]))
        return "\n\n".join([metrics_table(self.metrics), *tables])

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

    def draw_outcome(
        self, image_id: str, encoded: bytes | tf.Tensor, side: tuple[int, int]
    ) -> np.ndarray:
        """An image with the detections and the missed objects, as `pictures.draw_outcome`."""
        return pictures.draw_outcome(*self._decode(image_id, encoded), self.labels, side)

    def draw_panels(
        self, image_id: str, encoded: bytes | tf.Tensor, side: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image with its annotated boxes, and with the detections, as `pictures.draw_panels`."""
        return pictures.draw_panels(*self._decode(image_id, encoded), self.labels, side)

    def _decode(
        self, image_id: str, encoded: bytes | tf.Tensor
    ) -> tuple[np.ndarray, Truth, Detected, Outcome]:
        """An image's pixels, and what is known of it."""
        image = input_pipeline.decode_image(encoded).numpy()
        return image, self.truth[image_id], self.detected[image_id], self.outcomes[image_id]
