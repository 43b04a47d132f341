"""What all test folders share: one real server over the shipped repository, and one photo."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.server import EmbeddedServer, ServerSettings

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A running server over model_repository on free ports; tests only read from it."""
    with EmbeddedServer(ServerSettings(repository=PROJECT / "model_repository")) as running:
        yield running


@pytest.fixture(scope="session")
def smear() -> Path:
    """A rendered photo of a blood smear."""
    return PROJECT / "samples" / "smear-1.jpg"
