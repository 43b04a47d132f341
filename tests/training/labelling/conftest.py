"""A folder of photos as people have them, and the shipped network to look at them."""

import shutil
from pathlib import Path

import cv2
import pytest

from tests.conftest import PROJECT
from training.labelling.drafts import Draft, draft_photos, find_photos
from training.labelling.model import load_model
from training.network.onnx_network import OnnxNetwork

NETWORK = PROJECT / "model_repository" / "ssd" / "2" / "model.onnx"


@pytest.fixture(scope="session")
def network() -> OnnxNetwork:
    return load_model(NETWORK)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three smears, two of one name, below folders of their own; and two that do not decode."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("day one/a b.jpg", "day two/a b.jpg", "größe.JPG"), 1):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / "samples" / f"smear-{number}.jpg", folder / name)
    encoded = (folder / "größe.JPG").read_bytes()
    (folder / "cut.jpg").write_bytes(encoded[: len(encoded) // 2])
    (folder / "phone.heic").write_bytes(encoded)
    return folder


@pytest.fixture(scope="session")
def drafts(network: OnnxNetwork, photos: Path) -> list[Draft]:
    """What is found in those that decode."""
    return draft_photos(network, find_photos(photos), 0.5)


def write_flat_photo(path: Path) -> None:
    """A grey photo in which nothing can be found."""
    picture = cv2.imread(str(PROJECT / "samples" / "smear-1.jpg"))
    picture[:] = 200
    cv2.imwrite(str(path), picture)
