"""What the answers should be, and how good they are: each figure of speed has its mAP beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants.pipeline import LABELS, Documented, Pipeline
from client import Box, Detection, Result
from serving.release.evaluation import SCORE_THRESHOLD, read_evaluation, score_detections


def expected(
    network: Path, photos: Sequence[Path], documented: bool = False
) -> list[tuple[int, float]]:
    """Of each photo how many detections there are and the sum of their scores."""
    pipeline = Documented(network) if documented else Pipeline(network)
    found = [pipeline.detect(photo.read_bytes()) for photo in photos]
    return [(len(each.scores), float(each.scores.sum())) for each in found]


def measure_map(network: Path, evaluation: Path, documented: bool = False) -> float:
    """mAP@0.5 of a network with one way of decoding."""
    annotated = read_evaluation(evaluation)
    kind = Documented if documented else Pipeline
    pipeline = kind(network, score_threshold=SCORE_THRESHOLD)
    found = {
        number: result(pipeline.detect(path.read_bytes()))
        for number, path in annotated.photos.items()
    }
    return score_detections(annotated, found).map50


def result(found: Any) -> Result:
    """The client's Result of postprocessing's Detections."""
    rows = zip(
        found.boxes_xyxy.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True
    )
    detections = tuple(Detection(LABELS[n], n, s, Box(*box)) for box, s, n in rows)
    return Result(detections, width=0, height=0, model="")
