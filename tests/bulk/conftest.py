"""Photos, a network that takes no time, and a server of S3's protocol."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.monitoring.watched import Store
from bulk.settings import Bulk, find_network
from bulk.task import Task
from tests.serving.conftest import copy_repository


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose network finds one object in each photo, at once; not to be changed."""
    return copy_repository(tmp_path_factory.mktemp("bulk") / "models", score=0.9)


@pytest.fixture
def photos(tmp_path: Path, smear: Path) -> Path:
    """A folder of three photos, two of them in a subfolder, and what is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.jpg", "more/b.JPG", "more/c.jpg"):
        shutil.copy(smear, folder / name)
    (folder / "notes.txt").write_text("no photo")
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Address of a bucket on a real server of the protocol, its credentials set."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = Store()
        yield server.address
        server.away()


def make_task(photos: str | Path, output: str | Path, local: Path | None, **settings: Any) -> Task:
    """The task that a run of these settings has."""
    said = Bulk(str(photos), str(output), local=local, **settings)
    network = find_network(local, said.model, None) if local else None
    return Task(said, str(photos), str(output), "a digest", network)


def read_paths(folder: Path) -> list[str]:
    """The paths in all parts of an output, as a reader of Parquet finds them."""
    return pq.read_table(folder)["path"].to_pylist()
