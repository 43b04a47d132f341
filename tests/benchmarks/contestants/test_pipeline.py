"""The bare pipeline answers as the ensemble does, so a comparison of their speed is fair."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contestants import bare_worker, pipeline
from benchmarks.measurement import accuracy
from client import Detector
from serving.server.server import EmbeddedServer

NETWORK = pipeline.REPOSITORY / "ssd" / "2" / "model.onnx"  # the one that is served


def test_the_bare_pipeline_detects_what_the_ensemble_detects(
    server: EmbeddedServer, smear: Path
) -> None:
    found = pipeline.Pipeline(NETWORK).detect(smear.read_bytes())
    with Detector(server.grpc_url) as detector:
        served = detector.detect(smear).detections
    assert len(served) == len(found.scores) > 0
    boxes = [dataclasses.astuple(each.box) for each in served]
    assert np.array(boxes) == pytest.approx(found.boxes_xyxy, abs=0.01)
    assert [each.label for each in served] == pipeline.as_dict(found)["labels"]


def test_what_is_documented_detects_much_the_same(smear: Path) -> None:
    ((count, total),) = accuracy.expected(NETWORK, [smear])
    ((count_documented, total_documented),) = accuracy.expected(NETWORK, [smear], documented=True)
    assert count_documented == pytest.approx(count, abs=2)
    assert total_documented == pytest.approx(total, abs=2)


def test_a_worker_counts_after_the_ramp(smear: Path) -> None:
    photos = itertools.repeat(smear.read_bytes())
    found = bare_worker.measure_pipeline(pipeline.Pipeline(NETWORK), photos, seconds=0.1, ramp=0.05)
    assert found["total"] > found["completed"] == len(found["latencies_ms"])
    assert found["seconds"] >= 0.1
    assert sum(found["steps_ms"].values()) == pytest.approx(
        sum(found["latencies_ms"]) / found["completed"], rel=0.1
    )
