"""What the tests of releases share: versions whose every answer is known, side by side."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from PIL import Image

from serving.model_config import read_config
from serving.release.evaluation import EvaluationSet, read_evaluation
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.conftest import PROJECT
from tests.serving.conftest import copy_repository
from tests.serving.service import Pair
from tests.serving.tiny_network import fail_at, network, write_artifact

SAMPLES = sorted((PROJECT / "samples").glob("*.jpg"))
MIDDLE = (0.25, 0.25, 0.75, 0.75)  # what version 1 finds, of the photo
LOWER = (0.25, 0.25, 0.75, 0.56)  # what version 2 finds: 31/50 of it
DOUBTFUL = 0.3  # its score: below the server's default threshold of 0.5
AWAY = (0.8, 0.8, 0.9, 0.9)  # what version 3 finds


@pytest.fixture(scope="session")
def five_versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Five ensembles pinned to five versions of ssd."""
    repository = tmp_path_factory.mktemp("compare") / "models"
    ignore = shutil.ignore_patterns("__pycache__", "releases.json")
    shutil.copytree(PROJECT / "model_repository", repository, ignore=ignore)
    onnx_files = {
        "ensemble": network(300, 400, 3, box=MIDDLE, score=0.9),
        "ensemble_canary": network(300, 400, 3, box=LOWER, score=0.8),
        "away": network(300, 400, 3, box=AWAY),
        "doubtful": network(300, 400, 3, box=MIDDLE, score=DOUBTFUL),
        "failing": failing(network(300, 400, 3)),
    }
    for version, (name, model) in enumerate(onnx_files.items(), 1):
        (repository / "ssd" / str(version)).mkdir(exist_ok=True)
        onnx.save(model, repository / "ssd" / str(version) / "model.onnx")
        pin(repository, name, version)
    ssd = read_config(open_store(repository), "ssd")
    ssd.version_policy.specific.versions.extend(range(1, len(onnx_files) + 1))
    ssd.instance_group.add(count=1)
    (repository / "ssd" / "config.pbtxt").write_text(text_format.MessageToString(ssd))
    with EmbeddedServer(ServerSettings(repository=repository)) as running:
        yield running


def pin(repository: Path, name: str, version: int) -> None:
    """Write an ensemble over one version of ssd."""
    config = read_config(open_store(repository), "ensemble")
    config.name = name
    for step in config.ensemble_scheduling.step:
        if step.model_name == "ssd":
            step.model_version = version
    (repository / name / "1").mkdir(parents=True, exist_ok=True)
    (repository / name / "1" / ".keep").touch()
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config))


def failing(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network that fails on the sample photos, not on the one that servers are probed with."""
    fail_at(model.graph, 0.68, 0.8)
    return model


def annotate(folder: Path, *parts: tuple[float, float, float, float]) -> EvaluationSet:
    """The sample photos, with objects of RBC at these parts of each."""
    sizes = []
    for path in SAMPLES:
        with Image.open(path) as image:
            sizes.append(image.size)
    content = {
        "images": [{"id": n, "file_name": path.name} for n, path in enumerate(SAMPLES)],
        "categories": [{"id": 1, "name": "RBC"}],
        "annotations": [
            {
                "image_id": n,
                "category_id": 1,
                "bbox": [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height],
            }
            for n, (width, height) in enumerate(sizes)
            for x1, y1, x2, y2 in parts
        ],
    }
    (folder / "val.json").write_text(json.dumps(content))
    return read_evaluation(folder / "val.json", PROJECT / "samples")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers over one repository with version 1, which each test leaves live."""
    repository = copy_repository(tmp_path_factory.mktemp("pair") / "models", score=0.9)
    settings = ServerSettings(repository, admin_key="key-of-two-servers")
    with EmbeddedServer(settings) as server, EmbeddedServer(settings) as second:
        yield Pair(repository, server, second)


@pytest.fixture
def better(tmp_path: Path) -> Path:
    """An artifact that finds its object with the score .8."""
    return write_artifact(tmp_path / "better", score=0.8)
