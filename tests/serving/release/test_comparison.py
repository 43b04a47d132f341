"""A canary beside the stable version: what each found is known, so every figure is too."""

from pathlib import Path
from typing import Any

import pytest

from client import Detector
from serving.errors import CompareError, EvaluationError
from serving.release.comparison import Run, compare_models, send_in_turns
from serving.release.evaluation import read_evaluation
from serving.release.traffic import read_traffic
from serving.server.server import EmbeddedServer
from tests.conftest import PROJECT
from tests.serving.release.conftest import MIDDLE, SAMPLES, annotate


def test_figures_of_two_that_agree(five_versions: EmbeddedServer, tmp_path: Path) -> None:
    """The canary's boxes are 31/50 of the stable one's, which are the annotated ones."""
    evaluation = annotate(tmp_path, MIDDLE)
    comparison = compare_models(
        five_versions.grpc_url, "ensemble", "ensemble_canary", [], evaluation
    )
    stable, canary = comparison.stable, comparison.candidate
    assert stable.metrics
    assert canary.metrics
    assert (stable.metrics.map50, stable.metrics.map) == pytest.approx((1, 1))
    assert (canary.metrics.map50, canary.metrics.map) == pytest.approx((1, 0.3))
    assert (stable.requests, stable.failures, stable.boxes) == (4, 0, 4)
    assert (canary.requests, canary.failures, canary.boxes) == (4, 0, 4)
    assert comparison.agreement == 1
    assert comparison.score_change == pytest.approx(-0.1, abs=1e-3)
    for side in (stable, canary):
        assert side.latency_ms is not None
        assert side.p95_ms is not None
        assert 0 < side.latency_ms <= side.p95_ms


def test_boxes_elsewhere_have_no_partner(five_versions: EmbeddedServer) -> None:
    comparison = compare_models(five_versions.grpc_url, "ensemble", "away", SAMPLES)
    assert comparison.agreement == 0
    assert comparison.stable.metrics is None
    assert comparison.candidate.boxes == 4


def test_agreement_is_at_the_servers_thresholds(
    five_versions: EmbeddedServer, tmp_path: Path
) -> None:
    """What scores low counts for mAP, not for agreement, whether asked for or not."""
    for evaluation in (None, annotate(tmp_path, MIDDLE)):
        comparison = compare_models(
            five_versions.grpc_url, "ensemble", "doubtful", SAMPLES, evaluation
        )
        assert (comparison.stable.boxes, comparison.candidate.boxes) == (4, 0)
        assert comparison.agreement == 0
    assert comparison.candidate.metrics
    assert comparison.candidate.metrics.map50 == pytest.approx(1)
    nothing = compare_models(five_versions.grpc_url, "doubtful", "doubtful", SAMPLES)
    assert (nothing.agreement, nothing.stable.boxes) == (1, 0)


def test_failures_are_counted_on_their_side(five_versions: EmbeddedServer, tmp_path: Path) -> None:
    before = read_traffic(five_versions.grpc_url, "failing")
    evaluation = annotate(tmp_path, MIDDLE)
    comparison = compare_models(five_versions.grpc_url, "ensemble", "failing", [], evaluation)
    failed = comparison.candidate
    assert (comparison.stable.failures, failed.failures, failed.requests) == (0, 4, 4)
    assert SAMPLES[0].name in failed.first_error
    assert (failed.latency_ms, failed.p95_ms) == (None, None)
    assert failed.metrics
    assert failed.metrics.map50 == 0
    assert comparison.agreement is None
    after = read_traffic(five_versions.grpc_url, "failing")
    assert after.failed - before.failed == 5  # four, and the one that opened the connection
    assert after.answered - before.answered <= 1  # the server's own


def test_a_photo_that_no_model_reads(five_versions: EmbeddedServer, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    photos = [*SAMPLES[:1], tmp_path / "bad.jpg"]
    comparison = compare_models(five_versions.grpc_url, "ensemble", "ensemble_canary", photos)
    assert (comparison.stable.failures, comparison.candidate.failures) == (1, 1)
    assert "bad.jpg" in comparison.stable.first_error
    assert (comparison.agreement, comparison.stable.boxes) == (1, 1)


def test_nothing_to_compare(five_versions: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="serves no model other_canary; `python -m serving can"):
        compare_models(five_versions.grpc_url, "ensemble", "other_canary", SAMPLES)
    with pytest.raises(CompareError, match="no photos to compare with"):
        compare_models(five_versions.grpc_url, "ensemble", "ensemble_canary", [])
    with pytest.raises(CompareError, match="no Triton server answers at 127"):
        compare_models("127.0.0.1:1", "ensemble", "ensemble_canary", SAMPLES)
    with pytest.raises(CompareError, match="the address must be host:port"):
        compare_models("nowhere", "ensemble", "ensemble_canary", SAMPLES)


def test_labels_of_another_task(five_versions: EmbeddedServer, tmp_path: Path) -> None:
    annotate(tmp_path, MIDDLE)
    path = tmp_path / "val.json"
    path.write_text(path.read_text().replace("RBC", "pothole"))
    evaluation = read_evaluation(path, PROJECT / "samples")
    with pytest.raises(EvaluationError, match="has objects of pothole, but the labels are RBC"):
        compare_models(five_versions.grpc_url, "ensemble", "ensemble_canary", [], evaluation)


def test_each_side_is_first_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, str]] = []

    class Recorder(Run):
        def ask(self, photo: Path, parameters: Any) -> None:
            order.append((self._detector.model, photo.name))

    runs = [Recorder(Detector("127.0.0.1:1", model=name)) for name in ("a", "b")]
    send_in_turns(runs, [Path("1"), Path("2")], {}, progress=False)
    assert order == [("a", "1"), ("b", "1"), ("b", "2"), ("a", "2")]
