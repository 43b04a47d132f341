"""What all test folders share: one real server over the shipped repository, and one photo."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from serving.server import EmbeddedServer, ServerSettings

PROJECT = Path(__file__).parent.parent

# A first call traces a TensorFlow function, which takes seconds on a busy machine.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A running server over model_repository on free ports; tests only read from it."""
    with EmbeddedServer(ServerSettings(repository=PROJECT / "model_repository")) as running:
        yield running


@pytest.fixture(scope="session")
def smear() -> Path:
    """A rendered photo of a blood smear."""
    return PROJECT / "samples" / "smear-1.jpg"
