from pathlib import Path

import numpy as np
from PIL import Image

from client.detect.formats import yolo
from client.detect.journal import Entry
from tests.client.detect.formats.conftest import FOUND, entry
from training.data import check
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders


def test_nothing_is_a_folder_without_classes(tmp_path: Path) -> None:
    yolo.write_yolo([], tmp_path / "yolo")
    assert (tmp_path / "yolo/data.yaml").read_text() == "names: []\n"


def test_training_reads_it_back(entries: list[Entry], tmp_path: Path) -> None:
    yolo.write_yolo(entries, tmp_path / "yolo")
    assert check.check_folders(check.CheckSettings((tmp_path / "yolo",), val=0)) == 0
    found = Folders(FolderSettings((tmp_path / "yolo",), val=0)).read("train").annotations
    assert [item.image_id for item in found] == ["a-photo", "b-empty", "b-photo"]
    first, empty, second = found
    assert first.labels == ("RBC", "Platelets")
    np.testing.assert_allclose(
        first.boxes_xyxy, [[10.25, 5.5, 30.5, 40.0], [0.0, 0.0, 64.0, 48.0]], atol=1e-3
    )
    assert empty.labels == ()
    assert second.labels == ("RBC",)


def test_the_lines_are_class_centre_and_size(entries: list[Entry], tmp_path: Path) -> None:
    yolo.write_yolo(entries, tmp_path / "yolo")
    text = (tmp_path / "yolo/labels/a-photo.txt").read_text()
    assert text.splitlines()[1] == "2 0.500000 0.500000 1.000000 1.000000"
    assert (tmp_path / "yolo/labels/b-empty.txt").read_text() == ""


def test_a_class_that_was_not_found_keeps_the_numbers_of_the_others(
    entries: list[Entry], tmp_path: Path
) -> None:
    yolo.write_yolo(entries, tmp_path / "yolo")
    text = (tmp_path / "yolo/data.yaml").read_text()
    assert text == 'names: ["RBC", "class 1", "Platelets"]\n'


def test_training_reads_every_format_that_the_server_does(tmp_path: Path) -> None:
    """With boxes, and as photos without any."""
    kinds = {".jpg": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tiff": "TIFF"}
    found = []
    for place, (suffix, kind) in enumerate(kinds.items()):
        for name, detections in (("full", FOUND), ("empty", ())):
            path = tmp_path / f"{name}{place}{suffix}"
            Image.new("RGB", (64, 48), (50 * place, 90 * len(detections), 0)).save(path, kind)
            found.append(entry(path, *detections))
    yolo.write_yolo(found, tmp_path / "yolo")
    assert check.check_folders(check.CheckSettings((tmp_path / "yolo",), val=0)) == 0
    read = Folders(FolderSettings((tmp_path / "yolo",), val=0)).read("train")
    assert not read.problems
    assert sorted(len(item.labels) for item in read.annotations) == [0] * 5 + [2] * 5
