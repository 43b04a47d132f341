"""A repository that is away stops nobody: what dies meanwhile is replaced from the last copy."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.monitoring.watched import Store
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store import source
from serving.store.address import open_store
from tests.conftest import wait_until
from tests.serving.server.test_supervisor import MODELS, Watched


@contextmanager
def watching(repository: str | Path) -> Iterator[Watched]:
    """A server that follows changes."""
    own = Watched(repository, probe_seconds=1.0, watch=True)  # type: ignore[arg-type]
    with own.server:
        yield own


def survive(own: Watched, model: str) -> None:
    """Lose a stub, then tritonserver; each time photos are answered again."""
    stub = own.stub(model)
    os.kill(stub.pid, signal.SIGKILL)
    wait_until(lambda: any("works again after" in line for line in own.lines))
    assert own.infer() == "OK"
    os.kill(own.server.process.pid, signal.SIGKILL)
    wait_until(lambda: any("serving again after" in line for line in own.lines))
    assert own.infer() == "OK"
    assert not own.server.has_ended


def has_version(own: Watched, version: str) -> bool:
    with own.server.control() as control:
        return control.has_version("ssd", version)


def test_a_store_that_is_away_stops_nobody(
    moto: Store, repository: Path, make_artifact: Callable[..., Path]
) -> None:
    store = open_store(moto.address)
    store.create(repository)
    with watching(moto.address) as own:
        moto.away()
        survive(own, "preprocess")
        assert any(f"the last copy of {moto.address}: the store" in line for line in own.lines)
        moto.back()
        store.place("ssd/2", {"model.onnx": (make_artifact() / "model.onnx").read_bytes()})
        wait_until(lambda: "loaded ssd anew" in own.lines)
        assert has_version(own, "2")
        assert own.infer() == "OK"
        assert f"{moto.address} is there again" in own.lines
    assert own.server.failure is None


def test_a_store_that_falls_silent_holds_up_no_mend(moto: Store, repository: Path) -> None:
    """It is given up after 12 s; what is here already is loaded again without that."""
    open_store(moto.address).create(repository)
    own = Watched(moto.address, probe_seconds=1.0)  # type: ignore[arg-type]
    with own.server:
        moto.away()
        with socket.create_server(("127.0.0.1", moto.port)):  # takes connections, never answers
            os.kill(own.stub("preprocess").pid, signal.SIGKILL)
            wait_until(lambda: any("works again after" in line for line in own.lines))
            gone = f"going on with the last copy of {moto.address}: it does not answer"
            assert own.lines[1] == gone
            assert not any("tried twice" in line for line in own.lines)
            assert own.infer() == "OK"
        moto.back()


def test_a_folder_that_is_away_stops_nobody(
    repository: Path, make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SECONDS", 0.5)
    aside = repository.with_name("aside")
    with watching(repository) as own:
        mirror = own.server._region.folder / "mirror"
        wait_until((mirror / "ssd" / "1" / "model.onnx").exists)
        wait_until((mirror / "ensemble" / "config.pbtxt").exists)
        time.sleep(1)
        repository.rename(aside)
        survive(own, "ssd")
        (aside / "ssd" / "2").mkdir()
        network = (make_artifact() / "model.onnx").read_bytes()
        (aside / "ssd" / "2" / "model.onnx").write_bytes(network)
        aside.rename(repository)
        wait_until(lambda: "loaded ssd anew" in own.lines)
        assert has_version(own, "2")
        assert own.infer() == "OK"
        assert f"{repository} is there again" in own.lines
    assert own.server.failure is None


def test_the_stores_credentials_stay_here(moto: Store, repository: Path) -> None:
    open_store(moto.address).create(repository)
    with EmbeddedServer(ServerSettings(moto.address)) as server:
        pids = [server.process.pid, *(stub.pid for stub in server.process.stubs())]
        assert len(pids) > len(MODELS)
        for pid in pids:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"AWS_ACCESS_KEY_ID=" in environment
            assert b"the-stores-own-secret" not in environment
