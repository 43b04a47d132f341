"""Artifacts as training makes them, with a tiny network whose answer is constant."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

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
