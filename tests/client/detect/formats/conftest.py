"""Photos with entries, as a journal gives them."""

from pathlib import Path

import pytest

from client import Box, Detection, Result
from client.detect.journal import Entry
from tests.client.conftest import save_photo

FOUND = (
    Detection("RBC", 0, 0.75, Box(10.25, 5.5, 30.5, 40.0)),
    Detection("Platelets", 2, 0.5, Box(0.0, 0.0, 64.0, 48.0)),
)


def entry(photo: Path, *found: Detection) -> Entry:
    """Return a photo's result, 64 x 48 pixels."""
    return {"file": str(photo), **Result(found, 64, 48, "ensemble").to_dict()}


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Photos of one name in two folders, one of another name, and one that is no image."""
    names = ("a/photo.jpg", "b/photo.jpg", "b/empty.png", "b/broken.jpg")
    paths = [save_photo(tmp_path / "photos" / name) for name in names]
    for place, path in enumerate(paths):  # no two are alike: readers leave copies out
        path.write_bytes(path.read_bytes() + bytes([place]))
    paths[-1].write_text("no image")
    return paths


@pytest.fixture
def entries(photos: list[Path]) -> list[Entry]:
    """Two detections, one, none, and a failure."""
    first, second, empty, broken = photos
    error: Entry = {"file": str(broken), "error": "no image"}
    return [entry(first, *FOUND), entry(second, FOUND[0]), entry(empty), error]
