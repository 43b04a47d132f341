"""A made-up validation of rendered smears, and the report of it."""

from pathlib import Path

import numpy as np
import pytest

from training.data import records
from training.evaluation import measure, report, score
from training.evaluation.findings import Findings
from training.evaluation.score import Detected, Truth


@pytest.fixture(scope="session")
def found(records_folder: Path) -> Findings:
    """The val split, found well but for the first box of each image, and one that is not there."""
    manifest = records.load_manifest(records_folder, "val")
    truth = measure.read_truth(manifest)
    detected = [_almost(image) for image in truth]
    metrics = score.score_detections(truth, detected, manifest.labels)
    return Findings.of(manifest, truth, detected, metrics).with_details(300)


def _almost(image: Truth) -> Detected:
    boxes = np.concatenate([[[0, 0, 4, 4]], image.boxes_xyxy[1:]])
    scores = np.linspace(
        0.95, 0.6, len(boxes)
    )  # the false one is the surest: no threshold hides it
    return Detected(image.image_id, boxes, scores, np.append(2, image.classes[1:]))


@pytest.fixture(scope="session")
def page_path(
    found: Findings, resumed_events: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "report"
    return report.write_report(folder, found, resumed_events)
