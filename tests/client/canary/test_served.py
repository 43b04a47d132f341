"""A real server: version 1 is stable, version 2 the canary, version 3 a canary that fails."""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import numpy_helper
from tritonclient.grpc import InferenceServerClient, model_config_pb2

from client import Detector, Result, canary
from client.canary import Canary
from serving.server.server import EmbeddedServer, ServerSettings
from tests.client.canary.names import CANARY, STABLE, at
from tests.conftest import PROJECT
from tests.serving.tiny_network import network

SCORES = {STABLE: 0.6, CANARY: 0.8}
NAMES = [f"camera {number}" for number in range(60)]


class Trial:
    """A server whose canary can be set and unloaded."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.url = server.grpc_url
        self._repository = Path(server.settings.repository)
        self._control = server.control

    def set(self, share: float, version: int = 2) -> Canary:
        """Start a canary, or change its share."""
        config = pinned(self._repository / STABLE, version)
        config.name = CANARY
        config.parameters["canary_share"].string_value = str(share)
        config.parameters["canary_version"].string_value = str(version)
        write(config, self._repository / CANARY)
        with self._control() as control:
            control.load(CANARY)
        return at(share, str(version))

    def end(self) -> None:
        """Unload the canary."""
        with self._control() as control:
            control.unload(CANARY)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of its own over three versions, ensemble pinned to 1."""
    repository = tmp_path_factory.mktemp("canary") / "models"
    ignore = shutil.ignore_patterns("__pycache__", "releases.json")
    shutil.copytree(PROJECT / "model_repository", repository, ignore=ignore)
    for version, score in enumerate((*SCORES.values(), 0.9), 1):
        (repository / "ssd" / str(version)).mkdir(exist_ok=True)
        model = network(300, 400, 3, score=score)
        onnx.save(model if version < 3 else broken(model), repository / f"ssd/{version}/model.onnx")
    ssd = read(repository / "ssd")
    ssd.version_policy.specific.versions[:] = [1, 2, 3]
    write(ssd, repository / "ssd")
    write(pinned(repository / STABLE, 1), repository / STABLE)
    with EmbeddedServer(ServerSettings(repository)) as server:
        yield server


@pytest.fixture
def trial(served: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    """The server without a canary at first; knowledge grows old at once."""
    monkeypatch.setattr(canary, "CANARY_SECONDS", 0.2)
    trial = Trial(served)
    yield trial
    trial.end()


def read(folder: Path) -> model_config_pb2.ModelConfig:
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def write(config: model_config_pb2.ModelConfig, folder: Path) -> None:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))


def pinned(folder: Path, version: int) -> model_config_pb2.ModelConfig:
    """Return the ensemble's configuration with its network pinned to the version."""
    config = read(folder)
    (step,) = (step for step in config.ensemble_scheduling.step if step.model_name == "ssd")
    step.model_version = version
    return config


def broken(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make the network fail at each inference, though it loads."""
    (shape,) = (array for array in model.graph.initializer if array.name == "per_image")
    shape.CopyFrom(numpy_helper.from_array(np.array([-1, 400, 3], np.int64), shape.name))
    return model


def answered_by(result: Result) -> str:
    """Return the model that answered, by what it found; it must be the one that it says."""
    (found,) = result.detections
    assert found.score == pytest.approx(SCORES[result.model], abs=0.01)
    return result.model


def taken(detector: Detector, photo: Path) -> set[str]:
    """Return the names that the canary answers."""
    results = [(name, detector.detect(photo, canary_key=name)) for name in NAMES]
    return {name for name, result in results if answered_by(result) == CANARY}


def test_no_canary_is_the_stable_model(trial: Trial, smear: Path) -> None:
    with Detector(trial.url) as detector:
        assert taken(detector, smear) == set()


def test_a_larger_share_only_adds_keys(trial: Trial, smear: Path) -> None:
    with Detector(trial.url) as detector:
        found = []
        for share in (0, 0.2, 0.7, 1):
            expected = {name for name in NAMES if trial.set(share).takes(name)}
            detector._canary_cache.expire()
            found.append(taken(detector, smear))
            assert found[-1] == expected
        assert found[0] < found[1] < found[2] < found[3] == set(NAMES)


def test_no_request_fails_while_canaries_come_and_go(trial: Trial, smear: Path) -> None:
    share = trial.set(0.5)
    with Detector(trial.url) as detector, Load(detector, smear) as load:
        for _ in range(4):
            load.go_on(0.5)
            trial.end()
            load.go_on(0.5)
            trial.set(0.5)
    assert load.errors == []
    assert load.counts[STABLE] > 10
    assert load.counts[CANARY] > 10
    assert all(share.takes(name) for name in load.takers)


class Load:
    """Four threads that share a detector and send until the context ends."""

    def __init__(self, detector: Detector, photo: Path) -> None:
        self.errors: list[BaseException] = []
        self.counts: Counter[str] = Counter()
        self.takers: set[str] = set()
        self._end = threading.Event()
        self._detect = lambda name: detector.detect(photo, canary_key=name)
        self._threads = [threading.Thread(target=self._run, args=[n]) for n in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, seconds: float) -> None:
        """Wait while the threads send."""
        self._end.wait(seconds)

    def _run(self, number: int) -> None:
        while not self._end.is_set():
            name = NAMES[number := (number + 1) % len(NAMES)]
            try:
                model = answered_by(self._detect(name))
            except BaseException as error:
                self.errors.append(error)
                return
            self.counts[model] += 1
            if model == CANARY:
                self.takers.add(name)


def test_a_broken_canary_is_answered_for_and_counted(trial: Trial, smear: Path) -> None:
    trial.set(1, version=3)
    with Detector(trial.url, canary_key="user 42") as detector:
        assert [answered_by(detector.detect(smear)) for _ in range(5)] == [STABLE] * 5
    assert failures(trial.url) >= 5  # Triton counts an ensemble's failure twice


def failures(url: str) -> int:
    with InferenceServerClient(url) as client:
        (model,) = client.get_inference_statistics(CANARY).model_stats
    return int(model.inference_stats.fail.count)
