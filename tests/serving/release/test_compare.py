"""`serving compare`: what it prints, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving.errors import CompareError
from serving.release.compare import (
    CompareSettings,
    compare,
    describe_comparison,
    find_photos,
)
from serving.release.comparison import Comparison, Side
from serving.release.evaluation import Metrics
from serving.release.traffic import Traffic
from serving.server.server import EmbeddedServer
from tests.conftest import PROJECT
from tests.serving.release.conftest import MIDDLE, SAMPLES, annotate


def test_command(
    five_versions: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = annotate(tmp_path, MIDDLE).source
    images = PROJECT / "samples"
    settings = CompareSettings(url=five_versions.grpc_url, evaluation=evaluation, images=images)
    assert compare(settings) == 0
    out = capsys.readouterr().out
    assert "4 photos to each of ensemble and ensemble_canary" in out
    assert "canary: mAP@0.5 unchanged, mAP@[.5:.95] 0.700 lower" in out
    settings = CompareSettings((images,), url=five_versions.grpc_url, json=True)
    assert compare(settings) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["agreement"] == 1
    assert document["stable"]["requests"] == 4
    assert document["candidate"]["traffic"]["answered"] >= 4


def test_command_without_photos(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(CompareSettings()) == 2
    assert "name photos, folders of photos, or --evaluation" in capsys.readouterr().err


def test_photos_that_are_not_there(tmp_path: Path) -> None:
    assert find_photos([PROJECT / "samples", SAMPLES[0]]) == [*SAMPLES, SAMPLES[0]]
    with pytest.raises(CompareError, match="a folder without images"):
        find_photos([tmp_path])
    with pytest.raises(CompareError, match=r"absent.*: no such file or folder"):
        find_photos([tmp_path / "absent.jpg"])


def side(**changes: Any) -> Side:
    values: dict[str, Any] = {
        "model": "ensemble",
        "requests": 20,
        "failures": 0,
        "first_error": "",
        "latency_ms": 20.0,
        "p95_ms": 30.0,
        "boxes": 50,
        "metrics": Metrics(0.9, 0.6, {"RBC": (0.9, 0.6)}, 20),
        "traffic": Traffic(1000, 0, 15.0),
    }
    return Side(**values | changes)


def test_table_says_what_is_worse() -> None:
    worse = side(
        model="ensemble_canary",
        metrics=Metrics(0.869, 0.61, {"RBC": (0.869, 0.61)}, 20),
        latency_ms=25.5,
        failures=2,
        first_error="a.jpg: the server failed",
        traffic=Traffic(95, 5, None),
    )
    text = describe_comparison(Comparison(side(), worse, 0.93, -0.02))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "mAP@0.5 0.900 0.869 -0.031" in lines
    assert "RBC, mAP@0.5 0.900 0.869 -0.031" in lines
    assert "latency, median, ms 20.0 25.5 +5.5" in lines
    assert "requests of others before 1000 100" in lines
    assert "of them failed, % 0.00 5.00 +5.00" in lines
    assert "canary: mAP@0.5 0.031 lower, mAP@[.5:.95] 0.010 higher" in lines
    assert "canary: 2 of 20 requests failed, first: a.jpg: the server failed" in lines
    assert any(line.startswith("agreement: 93.0% of the boxes") for line in lines)


def test_table_without_figures() -> None:
    empty = side(metrics=None, latency_ms=None, p95_ms=None, traffic=Traffic(0, 0, None))
    text = describe_comparison(Comparison(empty, empty, None, 0.0))
    assert "mAP" not in text
    assert "agreement: no photo was answered by both" in text
