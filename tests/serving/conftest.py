"""Artifacts as training makes them, with a tiny network whose answer is constant."""

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import onnx
import pytest
from moto.server import ThreadedMotoServer

from benchmarks.monitoring.watched import Store
from serving.server import watch
from tests.conftest import PROJECT
from tests.serving.tiny_network import LABELS, network, write_artifact


@pytest.fixture(scope="session")
def project_repository() -> Path:
    """The shipped repository itself: not to be changed."""
    return PROJECT / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the shipped repository, with the network's first version only."""
    return copy_repository(tmp_path / "models")


@pytest.fixture
def tiny_repository(tmp_path: Path) -> Path:
    """The same with a tiny network, whose answer is known and takes no time."""
    return copy_repository(tmp_path / "models", score=0.9)


def copy_repository(target: Path, score: float | None = None) -> Path:
    """Copy the shipped repository with the network's first version only.

    Args:
        target: the new folder.
        score: of the one object that a tiny network finds, which takes that version's place; None
            for the shipped one.
    """
    ignore = shutil.ignore_patterns("__pycache__", "2", "releases.json")
    shutil.copytree(PROJECT / "model_repository", target, ignore=ignore)
    if score is not None:
        onnx.save(network(300, 400, len(LABELS), score=score), target / "ssd" / "1" / "model.onnx")
    return target


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., Path]:
    """make_artifact(labels, size, keep, resize, score, box) -> folder of an artifact."""

    def make(labels: Sequence[str] = LABELS, **settings: Any) -> Path:
        folder = tmp_path / f"artifact-{len(list(tmp_path.iterdir()))}"
        return write_artifact(folder, labels, **settings)

    return make


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """Host and port of a real server that speaks S3's protocol, its credentials set."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    credentials = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in credentials.items():
            environment.setenv(name, value)
        server.start()
        yield "{}:{}".format(*server.get_host_and_port())
        server.stop()


@pytest.fixture
def s3(moto_server: str) -> str:
    """Address of an empty place in a fresh bucket."""
    return make_bucket(moto_server)


def make_bucket(moto_server: str) -> str:
    """Make a bucket. Returns the address of an empty place in it."""
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=f"http://{moto_server}")
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{moto_server}/{bucket}/models"


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store of this test's own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "the-stores-own-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(watch, "STORE_SECONDS", 0.5)
    server = Store()
    yield server
    server.away()
