import json
from pathlib import Path
from typing import Any

import pytest

from client import LocalDetector
from client.local.model_folder import find_models
from tests.conftest import PROJECT
from training.data import records
from training.export import reference
from training.network import onnx_network

REPOSITORY = PROJECT / "model_repository"
NETWORK = REPOSITORY / "ssd" / "2" / "model.onnx"
SIDES = {"image_width_pixels": 640, "image_height_pixels": 480}


@pytest.fixture(scope="module")
def val(records_folder: Path) -> records.Manifest:
    return records.load_manifest(records_folder, "val")


@pytest.fixture(scope="module")
def network() -> onnx_network.OnnxNetwork:
    return onnx_network.load_onnx(NETWORK)


@pytest.fixture(scope="module")
def measured(network: onnx_network.OnnxNetwork, val: records.Manifest) -> dict[str, Any]:
    return reference.measure_reference(network, val)


def histograms(measured: dict[str, Any]) -> list[dict[str, list[float]]]:
    found: list[dict[str, list[float]]] = []
    for statistic in measured["statistics"].values():
        found += [statistic] if "edges" in statistic else statistic.values()
    return found


def test_it_is_plain_json(measured: dict[str, Any]) -> None:
    assert json.loads(json.dumps(measured)) == measured
    assert set(measured["statistics"]) == {
        "image_width_pixels",
        "image_height_pixels",
        "image_bytes",
        "image_brightness",
        "image_sharpness",
        "detections_per_image",
        "detection_score",
    }
    assert len(histograms(measured)) == 5 + 2 * 3
    for each in histograms(measured):
        assert len(each["counts"]) == len(each["edges"]) + 1


def test_each_image_is_measured_once(measured: dict[str, Any]) -> None:
    assert (measured["images"], measured["trained_on"]) == (4, 0)
    statistics = measured["statistics"]
    for name, side in SIDES.items():
        assert statistics[name]["counts"][statistics[name]["edges"].index(side)] == 4
    for label in ("RBC", "WBC", "Platelets"):
        assert sum(statistics["detections_per_image"][label]["counts"]) == 4


def test_detections_are_those_that_are_served(
    measured: dict[str, Any], val: records.Manifest
) -> None:
    """By the detector of the repository, which is tested to give what the server gives."""
    found: list[str] = []
    with LocalDetector(REPOSITORY) as detector:
        for example in records.dataset(val).as_numpy_iterator():
            found += [each.label for each in detector.detect(example["encoded"]).detections]

    scores = measured["statistics"]["detection_score"]
    assert len(found) > 20
    assert {label: sum(each["counts"]) for label, each in scores.items()} == {
        label: found.count(label) for label in scores
    }


def test_images_are_spread_over_a_large_split(
    network: onnx_network.OnnxNetwork, val: records.Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [example["encoded"] for example in records.dataset(val).as_numpy_iterator()]
    monkeypatch.setattr(reference, "IMAGES", 2)

    measured = reference.measure_reference(network, val)

    assert measured["images"] == 2
    sizes = measured["statistics"]["image_bytes"]
    one = reference.measure_files(network, [files[0], files[-1]], val.labels)
    assert one[0].histograms["image_bytes"].counts == sizes["counts"]


def test_what_the_server_refuses_is_left_out(
    network: onnx_network.OnnxNetwork, val: records.Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "MAX_PIXELS", 640 * 480 - 1)

    measured = reference.measure_reference(network, val)

    assert measured["images"] == 0
    assert not any(count for each in histograms(measured) for count in each["counts"])


def test_settings_are_those_that_are_served(measured: dict[str, Any]) -> None:
    served = find_models(REPOSITORY).postprocess.parameters
    assert measured["score_threshold"] == float(served["score_threshold"])
    assert measured["iou_threshold"] == float(served["iou_threshold"])
    assert int(served["max_detections"]) == reference.MAX_DETECTIONS
