import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.serving.tiny_network import network as tiny_network
from training import run_folder
from training.data import records
from training.data.records import ManifestError
from training.data.trained_on import NOTHING
from training.errors import TrainingError
from training.export import precisions as variant
from training.network import onnx_network


@pytest.fixture
def run(records_folder: Path, tmp_path: Path) -> Path:
    """A run folder with its description only."""
    folder = tmp_path / "run"
    folder.mkdir()
    labels = ["RBC", "WBC", "Platelets"]
    settings = {"records": str(records_folder), "train_split": "train"}
    run_folder.write_json(folder / "run.json", {"settings": settings, "labels": labels})
    return folder


def test_the_records_of_the_run_are_the_default(run: Path, records_folder: Path) -> None:
    photos = variant.find_photos(run, None)
    assert photos.calibration.directory == records_folder
    assert (photos.calibration.split, photos.calibration.count) == ("train", 8)
    assert photos.val
    assert (photos.val.split, photos.val.count) == ("val", 4)


def test_records_that_are_gone(run: Path, records_folder: Path, tmp_path: Path) -> None:
    description = run_folder.read_description(run)
    description["settings"]["records"] = str(tmp_path / "gone")
    run_folder.write_json(run / "run.json", description)
    with pytest.raises(
        TrainingError, match=r"gone, which .* was trained on, are not there.*--records"
    ):
        variant.find_photos(run, None)
    with pytest.raises(TrainingError, match="elsewhere are not there"):
        variant.find_photos(run, tmp_path / "elsewhere")
    assert variant.find_photos(run, records_folder).calibration.count == 8


def test_a_split_to_calibrate_with_that_is_missing(
    run: Path, records_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(records_folder, tmp_path / "copy"))
    (copy / "train.json").unlink()
    with pytest.raises(ManifestError, match=r"train\.json is missing"):
        variant.find_photos(run, copy)


def test_records_of_other_labels(run: Path, records_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(records_folder, tmp_path / "copy"))
    manifest = json.loads((copy / "val.json").read_text())
    (copy / "val.json").write_text(json.dumps(manifest | {"labels": ["crack"]}))
    with pytest.raises(TrainingError, match=r"was trained for the labels RBC.*holds crack"):
        variant.find_photos(run, copy)


@pytest.mark.parametrize(("count", "found"), [(1, 1), (3, 3), (8, 8), (64, 8)])
def test_images_of_a_split(records_folder: Path, count: int, found: int) -> None:
    images = variant.read_images(records.load_manifest(records_folder, "train"), 40, count)
    assert images.shape == (found, 40, 40, 3)
    assert images.dtype == np.uint8


def test_another_network_is_not_close() -> None:
    one, other = (
        onnx_network.OnnxNetwork(
            onnx_network.open_session(tiny_network(32, 5, 2, score=score).SerializeToString()),
            ("a", "b"),
            32,
            NOTHING,
        )
        for score in (0.9, 0.8)
    )
    images = np.zeros((2, 32, 32, 3), np.uint8)
    variant.check_close(one, one, images)
    with pytest.raises(TrainingError, match=r"differ by 0\.1 .*this network needs float32"):
        variant.check_close(one, other, images)
