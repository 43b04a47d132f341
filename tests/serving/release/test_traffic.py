"""What a server tells of an ensemble's requests and its defaults."""

from pathlib import Path
from typing import Any

import pytest

from client import Detector, InvalidImage
from serving.errors import CompareError
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import CanarySettings, canary
from serving.release.traffic import read_defaults, read_traffic
from serving.server.server import EmbeddedServer, ServerSettings
from serving.server.supervisor import Supervisor
from tests.serving.release.conftest import SAMPLES
from tests.serving.tiny_network import write_artifact


def test_traffic_counts_what_clients_sent(five_versions: EmbeddedServer) -> None:
    before = read_traffic(five_versions.grpc_url, "away")
    with Detector(five_versions.grpc_url, model="away") as detector:
        for photo in SAMPLES:
            detector.detect(photo)
        with pytest.raises(InvalidImage):
            detector.detect(b"no image")
    after = read_traffic(five_versions.grpc_url, "away")
    assert (after.answered - before.answered, after.failed - before.failed) == (4, 1)
    assert after.latency_ms is not None
    assert after.latency_ms > 0


def test_traffic_of_a_canary_is_its_own(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton counts a canary's requests from its start, whatever earlier ones were asked."""
    # The supervisor asks each ensemble, too, when the process of an unloaded version has ended.
    monkeypatch.setattr(Supervisor, "_probe", lambda _: None)
    artifact = write_artifact(tmp_path / "artifact")
    untried: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}
    with EmbeddedServer(ServerSettings(tiny_repository, probe_seconds=600)) as running:
        place: dict[str, Any] = {
            "repository": str(tiny_repository),
            "url": running.grpc_url,
            "admin_key": running.admin_key,
        }
        asked = []
        for _ in range(2):
            canary(CanarySettings(artifact=artifact, **place, **untried))
            started = read_traffic(running.grpc_url, "ensemble_canary")
            with Detector(running.grpc_url, model="ensemble_canary") as detector:
                for photo in SAMPLES:
                    detector.detect(photo)
            asked.append((started, read_traffic(running.grpc_url, "ensemble_canary")))
            rollback(RollbackSettings(**place))
    for started, after in asked:
        assert (started.asked, after.asked) == (1, 5)  # the one that confirmed it
        assert (started.failed, after.failed) == (0, 0)


def test_defaults_are_the_servers(five_versions: EmbeddedServer) -> None:
    defaults = read_defaults(five_versions.grpc_url, "ensemble")
    assert (defaults.score_threshold, defaults.max_detections) == (0.5, 100)
    with pytest.raises(CompareError, match="ssd has no step with the parameter score_threshold"):
        read_defaults(five_versions.grpc_url, "ssd")
