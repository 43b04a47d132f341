"""The model that ships, through the running server, on the rendered smears of samples/."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from defusedxml import ElementTree

from client import Detection, Detector
from serving.server.server import EmbeddedServer
from tests.conftest import PROJECT

SAMPLES = PROJECT / "samples"
NETWORK = PROJECT / "model_repository" / "ssd"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_most_cells_are_found_where_they_are(server: EmbeddedServer, number: int) -> None:
    """Its training began with rendered smears, of other seeds, and ended with photos."""
    photo = SAMPLES / f"smear-{number}.jpg"
    with Detector(server.grpc_url) as detector:
        found = detector.detect(photo).detections
    cells = _cells(photo.with_suffix(".xml"))
    hits = [any(_same(cell, detection) for detection in found) for cell in cells]
    right = [any(_same(cell, detection) for cell in cells) for detection in found]
    assert np.mean(hits) >= 0.7
    assert np.mean(right) >= 0.7


def test_the_live_version_is_the_other_one_in_8_bits() -> None:
    """And what it was calibrated with stands in it."""
    float32, int8 = (onnx.load(NETWORK / version / "model.onnx") for version in "12")
    wanted, facts = ({e.key: e.value for e in m.metadata_props} for m in (float32, int8))
    assert facts["precision"] == "int8"
    assert json.loads(facts["calibration"])["weight_bits"] == 7
    own = {"precision", "metrics", "exported", "versions"}
    assert {k: v for k, v in wanted.items() if k not in own}.items() <= facts.items()
    name = "mAP@[.5:.95] of photos trained on"
    before, after = (json.loads(card["metrics"])[name] for card in (wanted, facts))
    assert after == pytest.approx(before, abs=0.01)
    assert int8.ByteSize() < 0.3 * float32.ByteSize()


def _cells(path: Path) -> list[tuple[str, tuple[float, ...]]]:
    """Label and box, x1, y1, x2, y2 in pixels, of each rendered cell."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    return [
        (cell.findtext("name", ""), tuple(float(cell.findtext(f"bndbox/{c}", "")) for c in corners))
        for cell in ElementTree.parse(path).iter("object")
    ]


def _same(cell: tuple[str, tuple[float, ...]], found: Detection) -> bool:
    """Whether the labels agree and the boxes overlap with an IoU of half or more."""
    label, (x1, y1, x2, y2) = cell
    box = found.box
    width = min(x2, box.x2) - max(x1, box.x1)
    height = min(y2, box.y2) - max(y1, box.y1)
    if label != found.label or width <= 0 or height <= 0:
        return False
    union = (x2 - x1) * (y2 - y1) + (box.x2 - box.x1) * (box.y2 - box.y1) - width * height
    return width * height / union >= 0.5
