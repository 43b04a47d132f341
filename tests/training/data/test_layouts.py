"""Formats told apart by their layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.smears import FORMATS, LABELS, ids, write_voc
from training.data import problems
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.formats import voc
from training.data.layouts import open_folder


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_told_apart_and_read_alike(rendered: Path, name: str) -> None:
    folders = Folders(FolderSettings((rendered / name,)))
    for split in ("train", "val"):
        expected = voc.Folder(rendered / "voc").read(split, LABELS)
        found = folders.read(split, LABELS)
        assert found.problems == ()
        theirs = {annotation.image_id: annotation for annotation in expected.annotations}
        assert {annotation.image_id for annotation in found.annotations} == set(theirs)
        for annotation in found.annotations:
            other = theirs[annotation.image_id]
            assert annotation.labels == other.labels
            np.testing.assert_allclose(annotation.boxes_xyxy, other.boxes_xyxy, atol=2e-4)
    assert folders.strays() == []


def test_folder_of_no_format(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(problems.DataError) as caught:
        open_folder(tmp_path)
    lines = str(caught.value).splitlines()
    names = [line.split(":")[0].strip() for line in lines[1:]]
    assert names == ["Pascal VOC", "YOLO", "COCO", "CSV", "TFRecord"]


def test_folder_of_two_formats(rendered: Path, tmp_path: Path) -> None:
    path = shutil.copytree(rendered / "voc", tmp_path / "both")
    shutil.copytree(rendered / "coco", path, dirs_exist_ok=True)
    with pytest.raises(problems.DataError, match="Pascal VOC and COCO in one folder; move one"):
        open_folder(path)


def test_folders_within(tmp_path: Path) -> None:
    """VOCdevkit from above has a folder a year; an archive often has one folder of everything."""
    for year, image_id in (("VOC2007", "1"), ("VOC2012", "2")):
        write_voc(tmp_path / "zip/VOCdevkit" / year, {"train": [image_id, "3"]})
    years = Folders(FolderSettings((tmp_path,), val=0))
    assert ids(years, "train") == ["1", "VOC2007-3", "2"]
    write_voc(tmp_path / "other/archive/cells", {"train": ["1"]})
    assert ids(Folders(FolderSettings((tmp_path / "other",))), "train") == ["1"]


def test_json_lying_about_does_not_make_it_coco(rendered: Path, tmp_path: Path) -> None:
    path = shutil.copytree(rendered / "voc", tmp_path / "voc")
    (path / "notes.json").write_text("{}")
    assert open_folder(path).format == "Pascal VOC"
