"""Artifacts as training makes them, with a tiny network whose answer is constant."""

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.conftest import PROJECT
from tests.serving.tiny_network import LABELS, write_artifact


@pytest.fixture(scope="session")
def project_repository() -> Path:
    """The shipped repository itself: not to be changed."""
    return PROJECT / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the shipped repository, with the network's first version only."""
    ignore = shutil.ignore_patterns("__pycache__", "2", "releases.json")
    return Path(shutil.copytree(PROJECT / "model_repository", tmp_path / "models", ignore=ignore))


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., Path]:
    """make_artifact(labels, size, keep, score, box) -> folder of an artifact."""

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
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=f"http://{moto_server}")
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{moto_server}/{bucket}/models"
