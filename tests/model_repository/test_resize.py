"""A letterboxed network from its artifact to the real server: both Python steps know of it."""

import io
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client import Detector, LocalDetector
from serving.release.publish import PublishSettings, publish
from serving.server.server import EmbeddedServer, ServerSettings
from tests.serving.tiny_network import write_artifact

BOX = (0.25, 0.25, 0.75, 0.5)  # of the input, which the tiny network gives for every photo
GREY = 127 / 255


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts") / "mine"
    return write_artifact(folder, ("cat", "dog"), size=160, keep=10, resize="letterbox", box=BOX)


@pytest.fixture(scope="module")
def repository(artifact: Path) -> Path:
    target = artifact.parent / "models"
    publish(PublishSettings(artifact=artifact, repository=str(target), private_server=False))
    return target


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[Detector]:
    with (
        EmbeddedServer(ServerSettings(repository=repository)) as server,
        Detector(server.grpc_url, timeout=60) as detector,
    ):
        yield detector


def white(width: int, height: int) -> bytes:
    """A white JPEG, whose brightness on the canvas tells how much of that it takes up."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (255, 255, 255)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (400, 200, [100, 0, 300, 100]),
        (200, 400, [0, 100, 200, 200]),
        (3200, 1600, [800, 0, 2400, 800]),  # decoded at 1/8
        (300, 300, [75, 75, 225, 150]),
    ],
)
def test_boxes_are_in_pixels_of_the_photo(
    served: Detector, width: int, height: int, expected: list[int]
) -> None:
    result = served.detect(white(width, height))
    assert (result.width, result.height) == (width, height)
    (found,) = result.detections
    np.testing.assert_allclose(astuple(found.box), expected, atol=0.01)
    share = min(width, height) / max(width, height)
    brightness = share + (1 - share) * GREY
    assert found.score == pytest.approx(0.9 + 0.001 * brightness, abs=2e-6)


def test_without_a_server_it_is_the_same(
    served: Detector, repository: Path, artifact: Path
) -> None:
    photo = white(333, 217)
    wanted = served.detect(photo).detections
    for folder in (repository, artifact):
        with LocalDetector(folder) as local:
            assert local.detect(photo).detections == wanted
