"""Whatever happens to a server shows in its metrics, and they go with it."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc.model_config_pb2 import (
    TYPE_STRING,
    ModelConfig,
    ModelEnsembling,
    ModelInput,
)
from tritonclient.utils import InferenceServerException

from serving.errors import PrerequisiteError
from serving.monitoring.service_metrics import (
    EVENTS,
    SERVER_REASONS,
    STUB_REASONS,
    ServiceMetrics,
    find_events,
)
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import CanarySettings, PublishSettings, canary, publish
from serving.repository import State
from serving.served import Loaded
from serving.server import supervisor
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store import source
from serving.store.address import open_store
from tests.conftest import read_metrics, wait_until
from tests.serving.conftest import Store, copy_repository
from tests.serving.server.test_supervisor import Watched
from tests.serving.service import UNTRIED, Service
from tests.serving.tiny_network import write_artifact

PYTHON_MODELS = ("postprocess", "preprocess", "ssd")


class Metrics:
    """What a server's own port says at this moment."""

    def __init__(self, url: str | None) -> None:
        self._url = f"http://{url}/metrics"

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of one metric, by those of its labels, in the order of their names."""
        found = read_metrics(self._url).items()
        return {tuple(dict(sorted(by)).values()): v for (own, by), v in found if own == name}

    def __call__(self, name: str, *labels: str) -> float:
        return self.all(name)[labels]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A server of this module's own, whose processes and versions come and go."""
    repository = copy_repository(tmp_path_factory.mktemp("metrics") / "models", score=0.9)
    own = Watched(repository, probe_seconds=0.5, supervisor_port=0)
    with own.server:
        yield own


@pytest.fixture
def metrics(watched: Watched) -> Metrics:
    return Metrics(watched.server.supervisor_url)


@pytest.fixture
def service(watched: Watched) -> Service:
    return Service(Path(watched.server.settings.repository), watched.server)


def test_before_anything_has_happened_everything_is_there(metrics: Metrics) -> None:
    assert metrics.all("ssd_restarts_total") == {
        **{("", "server", reason): 0 for reason in SERVER_REASONS},
        **{(model, "stub", reason): 0 for model in PYTHON_MODELS for reason in STUB_REASONS},
    }
    assert metrics.all("ssd_release_events_total") == {(event,): 0 for event in EVENTS}
    assert metrics.all("ssd_probe_success") == {("ensemble",): 1}
    assert metrics("ssd_live_version", "ensemble", "ssd") == 1
    assert metrics("ssd_canary_version", "ensemble", "ssd") == 0
    assert metrics("ssd_canary_share", "ensemble", "ssd") == 0
    assert metrics("ssd_store_reachable") == 1


def test_who_serves_since_when(metrics: Metrics, watched: Watched) -> None:
    (labels,) = metrics.all("ssd_service_info")
    assert set(labels) == {"2.51.0", str(watched.server.settings.repository)}
    started = metrics("ssd_server_start_time_seconds")
    assert metrics("process_start_time_seconds") < started
    assert started < metrics("ssd_live_since_timestamp_seconds", "ensemble", "ssd")


def test_each_probe_is_counted(metrics: Metrics) -> None:
    before = metrics("ssd_probe_seconds_count", "ensemble")
    seen = metrics("ssd_last_probe_timestamp_seconds")
    wait_until(lambda: metrics("ssd_probe_seconds_count", "ensemble") > before)
    assert metrics("ssd_last_probe_timestamp_seconds") > seen
    assert metrics("ssd_probe_seconds_sum", "ensemble") > 0


def test_a_killed_stub(metrics: Metrics, watched: Watched) -> None:
    labels = ("postprocess", "stub", "died")
    before = metrics("ssd_restarts_total", *labels)
    watched.lines.clear()
    os.kill(watched.stub("postprocess").pid, signal.SIGKILL)
    wait_until(lambda: any("works again after" in line for line in watched.lines))
    assert metrics("ssd_restarts_total", *labels) == before + 1
    assert metrics("ssd_probe_success", "ensemble") == 1


def test_a_stopped_stub(
    metrics: Metrics, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FROZEN_SECONDS", 0.5)
    labels = ("ssd", "stub", "stopped")
    before = metrics("ssd_restarts_total", *labels)
    watched.lines.clear()
    os.kill(watched.stub("ssd").pid, signal.SIGSTOP)
    wait_until(lambda: any("works again after" in line for line in watched.lines))
    assert metrics("ssd_restarts_total", *labels) == before + 1
    assert metrics("ssd_probe_success", "ensemble") == 1


def test_a_killed_server_counts_as_failing_until_it_serves_again(
    metrics: Metrics, watched: Watched
) -> None:
    labels = ("", "server", "signal")
    before = metrics("ssd_restarts_total", *labels)
    started = metrics("ssd_server_start_time_seconds")
    os.kill(watched.server.process.pid, signal.SIGKILL)
    wait_until(lambda: metrics("ssd_restarts_total", *labels) == before + 1)
    assert metrics("ssd_probe_success", "ensemble") == 0
    wait_until(lambda: metrics("ssd_probe_success", "ensemble") == 1)
    assert metrics("ssd_server_start_time_seconds") > started


def test_an_unloaded_ensemble_counts_as_failing(metrics: Metrics, watched: Watched) -> None:
    with watched.server.control() as control:
        control.unload("ensemble")
        wait_until(lambda: metrics.all("ssd_probe_success") == {("ensemble",): 0})
        control.load("ensemble")
    wait_until(lambda: metrics("ssd_probe_success", "ensemble") == 1)


def test_a_version_that_does_not_load(metrics: Metrics, watched: Watched, service: Service) -> None:
    before = metrics("ssd_release_events_total", "failed")
    folder = service.repository / "ssd" / "99"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"junk")
    try:
        with watched.server.control() as control, pytest.raises(InferenceServerException):
            control.load("ssd")
        wait_until(lambda: metrics("ssd_release_events_total", "failed") > before)
        assert metrics("ssd_live_version", "ensemble", "ssd") == 1
    finally:
        shutil.rmtree(folder)
    with watched.server.control() as control:
        control.load("ssd")


def test_releases(metrics: Metrics, service: Service, tmp_path: Path) -> None:
    """A version is published, taken back, tried as a canary, and taken back again."""

    def events() -> list[float]:
        return [metrics("ssd_release_events_total", event) for event in EVENTS]

    def live() -> float:
        return metrics("ssd_live_version", "ensemble", "ssd")

    began, since = events(), metrics("ssd_live_since_timestamp_seconds", "ensemble", "ssd")
    second = write_artifact(tmp_path / "second", score=0.8)
    publish(PublishSettings(artifact=second, **service.where(), **UNTRIED))
    wait_until(lambda: live() == 2)
    assert metrics("ssd_live_since_timestamp_seconds", "ensemble", "ssd") > since
    rollback(RollbackSettings(**service.where()))
    wait_until(lambda: live() == 1)
    third = write_artifact(tmp_path / "third", score=0.7)
    canary(CanarySettings(artifact=third, share=0.25, **service.where(), **UNTRIED))
    wait_until(lambda: metrics("ssd_canary_version", "ensemble", "ssd") == 3)
    assert metrics("ssd_canary_share", "ensemble", "ssd") == 0.25
    wait_until(
        lambda: set(metrics.all("ssd_probe_success")) == {("ensemble",), ("ensemble_canary",)}
    )
    rollback(RollbackSettings(**service.where()))
    wait_until(lambda: metrics("ssd_canary_version", "ensemble", "ssd") == 0)
    wait_until(lambda: metrics.all("ssd_probe_success") == {("ensemble",): 1})
    assert [now - before for now, before in zip(events(), began, strict=True)] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("watch", [True, False], ids=["watched", "not watched"])
def test_a_store_that_goes_and_comes_back(
    watch: bool, moto: Store, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "STORE_SECONDS", 600.0 if watch else 0.5)
    open_store(moto.address).create(tiny_repository)
    settings = ServerSettings(moto.address, watch=watch, supervisor_port=0)
    with EmbeddedServer(settings) as server:
        metrics = Metrics(server.supervisor_url)
        assert metrics("ssd_store_reachable") == 1
        moto.away()
        wait_until(lambda: metrics("ssd_store_reachable") == 0)
        moto.back()
        wait_until(lambda: metrics("ssd_store_reachable") == 1)


def test_they_go_with_the_server_and_come_only_where_asked_for(tiny_repository: Path) -> None:
    with EmbeddedServer(ServerSettings(tiny_repository)) as server:
        assert server.supervisor_url is None
    with EmbeddedServer(ServerSettings(tiny_repository, supervisor_port=0)) as server:
        assert server.supervisor_url
        host, port = server.supervisor_url.split(":")
        with pytest.raises(ConnectionRefusedError):  # another address of this machine
            socket.create_connection(("127.0.0.2", int(port)), timeout=2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=2)


@pytest.mark.parametrize(
    ("before", "now", "events"),
    [
        (State(1), State(1), []),
        (State(1), State(2), ["live"]),
        (State(2), State(1), ["back"]),
        (State(1), State(1, 2, 0.1), ["canary"]),
        (State(1, 2, 0.1), State(1, 2, 0.5), []),
        (State(1, 2, 0.1), State(1, 3, 0.1), ["canary"]),
        (State(1, 2, 0.1), State(1), ["canary_ended"]),
        (State(1, 2, 0.1), State(2), ["live", "canary_ended"]),
    ],
)
def test_what_has_happened_between_two_probes(before: State, now: State, events: list[str]) -> None:
    assert find_events(before, now) == events


def test_a_port_that_was_taken_in_the_meantime() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=rf"--supervisor-port {port} cannot be used"):
            ServiceMetrics("models").open_port("127.0.0.1", port)


def loaded(*names: str) -> Loaded:
    """Ensembles that take photos, over two versions of one network."""
    image = ModelInput(name="image", data_type=TYPE_STRING)
    step = ModelEnsembling.Step(model_name="ssd", model_version=-1, input_map={"images": "images"})
    scheduling = ModelEnsembling(step=[step])
    configs = {
        name: ModelConfig(name=name, input=[image], ensemble_scheduling=scheduling)
        for name in names
    }
    return Loaded("2.51.0", configs, {"ssd": {1, 2}})


def test_probes_of_several_ensembles() -> None:
    metrics = ServiceMetrics("models")

    def success() -> dict[str, float]:
        families = text_string_to_metric_families(metrics.text())
        samples = [sample for family in families for sample in family.samples]
        return {s.labels["ensemble"]: s.value for s in samples if s.name == "ssd_probe_success"}

    metrics.note_probe(None, {}, {})
    assert (success(), metrics.live_versions()) == ({}, {})
    metrics.note_probe(loaded("one", "two"), {"one": 0.1, "two": 0.1}, {"two"})
    assert (success(), metrics.live_versions()) == ({"one": 1, "two": 0}, {"one": 2, "two": 2})
    metrics.note_probe(None, {}, {"the server"})
    assert (success(), metrics.live_versions()) == ({"one": 0, "two": 0}, {"one": 2, "two": 2})
    metrics.note_probe(loaded("one"), {"one": 0.1}, {})
    assert (success(), metrics.live_versions()) == ({"one": 1}, {"one": 2})
    metrics.note_probe(loaded(), {}, {"any ensemble"})
    assert (success(), metrics.live_versions()) == ({"one": 0}, {})
