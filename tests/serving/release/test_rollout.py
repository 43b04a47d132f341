"""What fails halfway is undone on a real server, and those who use it notice nothing."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from serving.control import Control
from serving.errors import PublishError, StoreError
from serving.model_config import read_config, with_pin
from serving.release import deployment
from serving.release.deployment import Deployment
from serving.release.promote import PromoteSettings, promote
from serving.release.rollout import Rollout
from serving.repository import State
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.folder import FolderStore
from tests.conftest import wait_until
from tests.serving.conftest import copy_repository
from tests.serving.service import Service
from tests.serving.tiny_network import network

JUNK = b"no network at all"


def file_of(score: float) -> bytes:
    """A network's file that finds one object with this score, which tells it from others."""
    return bytes(network(300, 400, 3, score=score).SerializeToString())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One server for all these tests; each leaves a version live, with the score .9."""
    repository = copy_repository(tmp_path_factory.mktemp("there") / "models", score=0.9)
    with EmbeddedServer(ServerSettings(repository)) as server:
        yield Service(repository, server)


def attempt(service: Service, content: bytes, canary: bool = False) -> None:
    """A release that publishes this file."""
    with service.session() as rollout:
        before, number = rollout.state(), rollout.next_number()
        after = State(before.live, number, 0.5) if canary else State(number)
        rollout.move(before, after, content)


def end_canary(service: Service) -> None:
    with service.session() as rollout:
        before = rollout.state()
        rollout.move(before, State(before.live))


def compute_wrongly(content: bytes, images: np.ndarray) -> np.ndarray:
    """Scores that are not the file's."""
    return np.full((len(images), 400, 3), 0.5, np.float32)


FAILURES: dict[str, tuple[bytes, str, dict[tuple[object, str], object]]] = {
    "does not load": (JUNK, "version 2 is at UNAVAILABLE .* Load model from", {}),
    "answers something else": (
        file_of(0.8),
        r"version 2 answers .* differ by 0\.[345]\d\d from those of its file, 0\.02 at most",
        {(deployment, "compute_scores"): compute_wrongly},
    ),
    "ensemble uses another": (
        file_of(0.8),
        r"ensemble answers, but not with version \d of ssd",
        {(Control, "answered"): lambda *_: 0, (deployment, "COUNT_SECONDS"): 0.2},
    ),
}


@pytest.mark.parametrize("canary", [False, True], ids=["publish", "canary"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_undone(
    failure: str, canary: bool, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, words, patches = FAILURES[failure]
    before = service.files()
    with service.used() as scores, monkeypatch.context() as patch:
        for (target, name), value in patches.items():
            patch.setattr(target, name, value)
        with pytest.raises(PublishError, match=f"{words}.*; everything is as it was"):
            attempt(service, content, canary)
        assert service.files() == before
        wait_until(service.is_ready)
    assert scores <= {0.9, 0.8}
    assert service.score() == 0.9
    with service.server.control() as control:
        assert control.versions("ssd", "READY") == {"1"}
        assert "ensemble_canary" not in control.models("READY")


def test_interrupted_by_the_user(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    before = service.files()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("confirm_version", "confirm_ensemble"):
        with service.used(), monkeypatch.context() as patch:
            patch.setattr(Deployment, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                attempt(service, file_of(0.8), canary=True)
            assert service.files() == before
    wait_until(service.is_ready)
    assert service.score() == 0.9


def test_loading_takes_too_long(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    before, load, holds = service.files(), Control.load, list[Path]()

    def impatient(control: Control, model: str, **options: Any) -> None:
        new = (service.repository / "ssd" / "2").exists()
        if holds or not new or model != "ssd":
            return load(control, model, **options)
        holds.append(service.keep_processes_from_starting())
        try:
            load(control, model, timeout=0.3)
        finally:
            holds[0].unlink()

    with service.used():
        monkeypatch.setattr(Control, "load", impatient)
        with pytest.raises(PublishError, match="Deadline Exceeded; everything is as it was"):
            attempt(service, file_of(0.8))
        assert len(holds) == 1
        assert service.files() == before
    wait_until(service.is_ready)
    assert service.score() == 0.9


def test_store_fails_at_the_last_moment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be undone is, by the next command; the server goes on meanwhile."""
    before, write, fails = service.files(), FolderStore.write, [False]

    def fill(store: FolderStore, path: str, data: bytes) -> None:
        fails[0] |= b'"committed": true' in data
        if fails[0]:
            raise StoreError("no space left")
        write(store, path, data)

    with service.used() as scores:
        with monkeypatch.context() as patch:
            patch.setattr(FolderStore, "write", fill)
            words = "no space left. It could not be undone, the next command does so: no space left"
            with pytest.raises(StoreError, match=words):
                attempt(service, file_of(0.7))
        with service.session() as rollout:
            assert rollout.state() == State(1)
    assert service.files() | lock_of(service) == before | lock_of(service)
    assert scores <= {0.9, 0.7}
    assert service.score() == 0.9


def lock_of(service: Service) -> dict[str, bytes]:
    """A lock that is held at the moment."""
    return {".models.lock": b""}


def test_version_copied_in_by_hand(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays, and no failure makes the server load it."""
    by_hand = service.repository / "ssd" / "2"
    by_hand.mkdir()
    (by_hand / "model.onnx").write_bytes(file_of(0.6))
    before = service.files()
    with pytest.raises(PublishError, match="version 3 is at UNAVAILABLE"):
        attempt(service, JUNK)
    assert service.files() == before
    assert service.score() == 0.9
    place = FolderStore.place

    def collide(store: FolderStore, folder: str, files: dict[str, bytes]) -> None:
        place(store, "ssd/3", {"model.onnx": file_of(0.6)})
        place(store, folder, files)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "place", collide)
        with pytest.raises(PublishError, match="ssd/3 exists already; everything is as it was"):
            attempt(service, file_of(0.7))
    assert (service.repository / "ssd" / "3" / "model.onnx").read_bytes() == file_of(0.6)
    assert service.score() == 0.9
    shutil.rmtree(service.repository / "ssd" / "3")
    (by_hand / "model.onnx").write_bytes(JUNK)
    before = service.files()
    with pytest.raises(PublishError, match=r"its model\.onnx cannot be run: "):
        promote(PromoteSettings(version=2, **service.where()))
    assert service.files() == before
    shutil.rmtree(by_hand)
    wait_until(service.is_ready)


def test_version_that_another_ensemble_names(service: Service) -> None:
    """It is served all the time, whatever is released beside it."""
    mine = service.repository / "mine"
    shutil.copytree(service.repository / "ensemble", mine)
    text = (mine / "config.pbtxt").read_text().replace('name: "ensemble"', 'name: "mine"')
    (mine / "config.pbtxt").write_text(with_pin(text, "ssd", 1))
    with service.server.control() as control:
        control.load("mine")
    with service.used("ensemble", "mine") as scores:
        attempt(service, file_of(0.8))
        assert (service.score(), service.score("mine")) == (0.8, 0.9)
        with service.session() as rollout:
            assert rollout.state() == State(2)
            assert served(rollout) == [1, 2]
            rollout.move(State(2), State(1))
            assert served(rollout) == [1]
            rollout.move(State(1), State(2))
    assert scores == {0.9, 0.8}
    with service.server.control() as control:
        control.unload("mine")
    shutil.rmtree(mine)
    with service.session() as rollout:
        rollout.move(State(2), State(1))
    assert service.score() == 0.9


def served(rollout: Rollout) -> list[int]:
    """The versions that the network's configuration asks for."""
    return list(read_config(rollout.repository.store, "ssd").version_policy.specific.versions)


def test_what_is_served_stays_when_tidying_fails(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_live(service)

    def fail(*_: object) -> None:
        raise InferenceServerException("too busy")

    monkeypatch.setattr(Deployment, "wait_until_unloaded", lambda *_: None)
    monkeypatch.setattr(Rollout, "finish", fail)
    attempt(service, file_of(0.7))
    assert "3 live; the next command tidies up, now too busy" in capsys.readouterr().out
    assert service.score() == 0.7
    with pytest.raises(PublishError, match="failed: too busy"), service.session():
        pass
    monkeypatch.undo()
    with service.session() as rollout:
        assert rollout.record.unfinished is None
        assert rollout.state() == State(3)
        rollout.move(State(3), State(before))
    assert service.score() == 0.9


def read_live(service: Service) -> int:
    """The live version."""
    with service.session() as rollout:
        return rollout.state().live


def test_canary_share_and_end(service: Service) -> None:
    with service.used() as scores:
        attempt(service, file_of(0.7), canary=True)
        assert service.score("ensemble_canary") == 0.7
        end_canary(service)
    assert scores == {0.9}
    wait_until(service.is_ready)


def test_server_dies_in_the_middle(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    before, ask = service.files(), Control.infer_network

    def die(control: Control, *arguments: Any) -> np.ndarray:
        os.kill(service.server.process.pid, signal.SIGKILL)
        return ask(control, *arguments)

    monkeypatch.setattr(Control, "infer_network", die)
    with pytest.raises(PublishError, match="the repository is as it was, but the server could not"):
        attempt(service, file_of(0.6))
    assert service.files() == before
    monkeypatch.undo()
    wait_until(service.is_ready)
    assert service.score() == 0.9
    attempt(service, file_of(0.8))
    assert service.score() == 0.8
