"""CSV label files: what is right comes out as VOC has it, what is wrong is named and left out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data import problems
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.formats import csv_labels
from training.data.layouts import open_folder

HEAD = "filename,width,height,class,xmin,ymin,xmax,ymax"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"images/{name}.png"), np.full((30, 40, 3), ord(name), np.uint8))
    return tmp_path


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([HEAD, *lines]) + "\n")


def test_boxes_are_vocs(folder: Path) -> None:
    write(folder / "labels.csv", "a.png,40,30,cell,5,6,20,25", "a.png,40,30,speck,1,1,40,30")
    dataset = open_folder(folder).read("all")
    assert dataset.problems == ()
    (found,) = dataset.annotations
    assert found.labels == ("cell", "speck")
    np.testing.assert_array_equal(found.boxes_xyxy, [[4, 5, 20, 25], [0, 0, 40, 30]])


def test_splits_are_told_by_names(folder: Path) -> None:
    write(folder / "data/train_labels.csv", "a.png,40,30,cell,5,6,20,25")
    write(folder / "valid/_annotations.csv", "x\\images\\b.png,40,30,cell,5,6,20,25")
    opened = open_folder(folder)
    assert sorted(opened.splits()) == ["train", "val"]
    assert [a.image_id for a in opened.read("val").annotations] == ["b"]
    opened.read("train")
    assert [problem.file for problem in opened.strays()] == ["images/c.png"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("d.png,40,30,cell,5,6,20,25", "missing image"),
        ("../a.png,40,30,cell,5,6,20", "bad object"),
        ("a.png,40,30,cell,5,six,20,25", "bad object"),
        ("a.png,40,30,,5,6,20,25", "bad object"),
        ("a.png,40,30,cell,20,6,5,25", "zero area"),
        ("a.png,80,60,cell,5,6,20,25", "size disagrees"),
        ("a.png,40,30,cell,0.1,0.2,0.4,0.5", "shares, not pixels"),
    ],
)
def test_flawed_line(folder: Path, line: str, kind: str) -> None:
    write(folder / "labels.csv", line, "b.png,40,30,cell,5,6,20,25")
    dataset = open_folder(folder).read("all")
    assert [(problem.kind, problem.fatal_for) for problem in dataset.problems] == [(kind, "image")]
    assert [found.image_id for found in dataset.annotations] == ["b"]


def test_two_images_of_one_name(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more/a.png").write_bytes((folder / "images/a.png").read_bytes())
    write(folder / "labels.csv", "a.png,40,30,cell,5,6,20,25")
    (problem,) = open_folder(folder).read("all").problems
    assert "found images/a.png, more/a.png" in problem.message


def test_other_tables_are_no_labels(folder: Path) -> None:
    (folder / "prices.csv").write_text("name,price\na,1\n")
    with pytest.raises(problems.DataError, match="no CSV labels"):
        csv_labels.Folder(folder)


def test_raccoons(test_data: Path) -> None:
    """XML, CSV and TFRecord of the same photos: XML counts, and CSV gives the same boxes."""
    path = test_data / "data/raccoon"
    folders = Folders(FolderSettings((path,), val=0))
    assert "data/test.record (--format csv or --format tfrecord reads them" in folders.notes()[0]
    found = {item.image_id: item for item in folders.read("train").annotations}
    tables = (
        Folders(FolderSettings((path,), val=0, format="csv")).read("raccoon_labels").annotations
    )
    assert len(found) == len(tables) == 196
    for table in tables:
        ours = found[table.image_id].boxes_xyxy
        np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(table.boxes_xyxy, axis=0))
