"""What the tests of the page with corrections share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For corrections, with the classes of the shipped model."""
    folder = tmp_path_factory.mktemp("corrections")
    (folder / "labels.txt").write_text("RBC\nWBC\nPlatelets")
    return folder
