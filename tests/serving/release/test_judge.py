"""A judge decides over canaries of every kind, with a real Prometheus, while clients are served."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from client import Detector, DetectorError
from serving.__main__ import main
from serving.errors import DriftError, PublishError
from serving.history import read_record
from serving.release.judge import PROMOTED, ROLLED_BACK, UNDECIDED, JudgeSettings, judge
from serving.release.publish import CanarySettings, canary
from serving.repository import State, open_repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.serving.conftest import copy_repository
from tests.serving.monitoring.past import Past, remembering
from tests.serving.release.conftest import AWAY, MIDDLE, SAMPLES, annotate
from tests.serving.tiny_network import fail_at, slow_down, write_artifact

PAUSE = 0.05  # seconds between two requests of a client
UNTRIED: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}


def encode_plain(brightness: float) -> bytes:
    """A grey photo, 0 to 1."""
    return cv2.imencode(".png", np.full((60, 80, 3), 255 * brightness, np.uint8))[1].tobytes()


@dataclass
class Clients:
    """One that never meets a canary, and one that always does."""

    url: str
    failed: list[DetectorError] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Clients":
        self._threads = [threading.Thread(target=self._ask, args=(key,)) for key in ("", "key")]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, key: str) -> None:
        with Detector(self.url, canary_key=key, retries=0) as detector:
            for photo in [encode_plain(0.4), encode_plain(0.75)] * 10_000:
                try:
                    detector.detect(photo)
                except DetectorError as error:
                    self.failed.append(error)
                if self._stopped.wait(PAUSE):
                    return


@dataclass
class Trial:
    """A server, and the Prometheus that scrapes it."""

    repository: Path
    server: EmbeddedServer
    prometheus: str
    photos: Path

    def start_canary(self, artifact: Path) -> None:
        canary(CanarySettings(artifact=artifact, share=1.0, **self.where(), **UNTRIED))

    def judge(self, **settings: Any) -> int:
        usual: dict[str, Any] = {"watch": "10s", "requests": 40, "photos": (self.photos,)}
        usual |= {"prometheus": self.prometheus, "slowdown": 2.0}
        return judge(JudgeSettings(**(usual | self.where() | settings)))

    def where(self) -> dict[str, Any]:
        key = self.server.admin_key
        return {"repository": str(self.repository), "url": self.server.grpc_url, "admin_key": key}

    def state(self) -> State:
        return open_repository(open_store(self.repository), "ensemble").state()

    def last_reason(self) -> str:
        return str(read_record(open_store(self.repository), "ensemble").log[-1]["why"])


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("judge")
    repository = copy_repository(folder / "models", score=0.9)
    photo = folder / "dark.png"
    photo.write_bytes(encode_plain(0.4))
    with (
        EmbeddedServer(ServerSettings(repository)) as server,
        remembering(folder / "prometheus", Past(), server.metrics_url) as url,
    ):
        yield Trial(repository, server, url, photo)


def rewritten(artifact: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    network = onnx.load(artifact / "model.onnx")
    change(network.graph)
    onnx.save(network, artifact / "model.onnx")
    return artifact


def erring(folder: Path) -> Path:
    return rewritten(write_artifact(folder), lambda graph: fail_at(graph, 0.7, 0.8))


def slow(folder: Path) -> Path:
    return rewritten(write_artifact(folder), slow_down)


def disagreeing(folder: Path) -> Path:
    return write_artifact(folder, box=AWAY)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (erring, r"judge: [45]\d\.\d% of its requests failed, of the live version's 0\.0%"),
        (slow, r"judge: it takes [\d.]+ ms for a request, the live version [\d.]+; 2 times"),
        (disagreeing, r"judge: both found 0\.0% of the boxes; 70\.0% expected"),
    ],
    ids=["erring", "slow", "disagreeing"],
)
def test_a_worse_canary_is_rolled_back(
    trial: Trial, tmp_path: Path, make: Callable[[Path], Path], reason: str
) -> None:
    before = trial.state()
    trial.start_canary(make(tmp_path / "worse"))
    with Clients(trial.server.grpc_url) as clients:
        assert trial.judge(watch="60s") == ROLLED_BACK
    assert trial.state() == before
    assert clients.failed == []  # where a canary fails, the live version answers
    assert re.match(reason, trial.last_reason())


def test_what_gains_on_the_new_set_and_forgets_the_old_one_is_rolled_back(
    trial: Trial, tmp_path: Path
) -> None:
    sets = []
    for name, box in (("new", AWAY), ("old", MIDDLE)):
        (tmp_path / name).mkdir()
        sets.append(annotate(tmp_path / name, box).source.rename(tmp_path / f"{name}.json"))
    trial.start_canary(disagreeing(tmp_path / "forgetful"))
    measured = {"evaluation": tuple(sets), "images": SAMPLES[0].parent, "photos": ()}
    assert trial.judge(agreement=0.0, **measured) == ROLLED_BACK
    why = trial.last_reason()
    assert "judge: mAP@0.5 is 0.000, 1.000 lower than the live version's 1.000 on 4 photos" in why
    assert "mAP@0.5 1.000, the live version 0.000, on 4 photos of new.json" in why


def test_a_good_one_is_promoted_and_the_log_says_why(
    trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trial.state()
    trial.start_canary(write_artifact(tmp_path / "good", score=0.85))
    number = trial.state().canary
    assert trial.judge(watch="2s") == UNDECIDED
    assert trial.state().canary == number
    with Clients(trial.server.grpc_url) as clients:
        assert trial.judge() == PROMOTED
    assert trial.state() == State(number or 0)
    assert clients.failed == []
    capsys.readouterr()
    assert main(["releases", "--repository", str(trial.repository), "--log"]) == 0
    *_, started, promoted = capsys.readouterr().out.splitlines()
    assert started.endswith(f"version {before.live} live, version {number} a canary for 100%")
    assert f"version {number} live  judge: " in promoted
    assert "agreement 100.0% on 1 photos" in promoted


def test_what_cannot_be_judged_stays(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="runs no canary of ensemble to judge"):
        trial.judge()
    trial.start_canary(write_artifact(tmp_path / "good", score=0.85))
    state = trial.state()
    with pytest.raises(PublishError, match="name --photos on which both must agree, or an --eva"):
        trial.judge(photos=())
    with pytest.raises(PublishError, match="name it with --url"):
        trial.judge(url="")
    with pytest.raises(DriftError, match=r"Prometheus at http://127\.0\.0\.1:9 does not answer"):
        trial.judge(prometheus="http://127.0.0.1:9")
    with pytest.raises(DriftError, match="--watch must be such as"):
        trial.judge(watch="soon")
    assert trial.state() == state
    assert main(["rollback", *_options(trial)]) == 0


def test_somebody_else_decides(trial: Trial, tmp_path: Path) -> None:
    trial.start_canary(write_artifact(tmp_path / "good", score=0.85))
    with pytest.raises(PublishError, match="is no canary of ensemble any more, somebody else dec"):
        _judge_while(trial, lambda: main(["rollback", *_options(trial)]))


def _judge_while(trial: Trial, act: Callable[[], object]) -> None:
    timer = threading.Timer(3, act)
    timer.start()
    try:
        trial.judge(watch="60s")
    finally:
        timer.join()


def _options(trial: Trial) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in trial.where().items()]
