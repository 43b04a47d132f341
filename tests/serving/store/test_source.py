"""A repository that is away stops nobody: what dies meanwhile is replaced from the last copy."""

import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from serving.server import watch
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store import source
from serving.store.address import open_store
from tests.conftest import wait_until
from tests.serving.server.test_supervisor import MODELS, Watched


class Moto:
    """A server of S3's protocol that can go and come back; what it holds stays."""

    def __init__(self) -> None:
        self.port, bucket = 0, f"bucket-{uuid.uuid4().hex[:8]}"
        self.back()
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}")
        client.create_bucket(Bucket=bucket)
        client.close()
        self.address = f"s3://127.0.0.1:{self.port}/{bucket}/models"

    def back(self) -> None:
        """Listen, where it listened before."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def away(self) -> None:
        """Listen no more."""
        self._server.stop()


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    """A store of this test's own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "the-stores-own-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(watch, "STORE_SECONDS", 0.5)
    server = Moto()
    yield server
    server.away()


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
    moto: Moto, repository: Path, make_artifact: Callable[..., Path]
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


def test_the_stores_credentials_stay_here(moto: Moto, repository: Path) -> None:
    open_store(moto.address).create(repository)
    with EmbeddedServer(ServerSettings(moto.address)) as server:
        pids = [server.process.pid, *(stub.pid for stub in server.process.stubs())]
        assert len(pids) > len(MODELS)
        for pid in pids:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"AWS_ACCESS_KEY_ID=" in environment
            assert b"the-stores-own-secret" not in environment
