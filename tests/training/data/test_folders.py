"""Several folders as one: formats told apart, splits by ratio, names, twins and leakage."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.smears import (
    FORMATS,
    copy_image,
    ids,
    numbered,
    records_of,
    write_voc,
)
from training.data import problems, records
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders


def test_records_are_the_same_whatever_the_format(rendered: Path, tmp_path: Path) -> None:
    """To the last bit from COCO; within YOLO's six decimals."""
    made = {name: records_of([rendered / name], tmp_path / name) for name in FORMATS}
    assert made["coco"].fingerprint == made["voc"].fingerprint
    examples = [list(records.dataset(made[name]).as_numpy_iterator()) for name in ("voc", "yolo")]
    for ours, theirs in zip(*examples, strict=True):
        assert ours["image_id"] == theirs["image_id"]
        assert ours["encoded"] == theirs["encoded"]
        assert ours["classes"].tolist() == theirs["classes"].tolist()
        np.testing.assert_allclose(ours["boxes_xyxy"], theirs["boxes_xyxy"], atol=2e-6)


def test_records_of_several_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Held out, renamed, joined; and the leak between the two comes first."""
    a = write_voc(tmp_path / "a", {"train": numbered(4)})
    b = write_voc(tmp_path / "b", {"train": ["1"], "val": ["2"]}, {"1": "disc"})
    copy_image(b / "JPEGImages/2.png", a / "JPEGImages/photo-0.png")
    copy_image(b / "JPEGImages/2.png", a / "JPEGImages/photo-1.png")
    options = {"labels": (), "rename": ("disc=cell",), "val": 0.25, "splits": ("train", "val")}
    manifest = records_of([a, b], tmp_path / "records", **options)
    out = capsys.readouterr().out
    assert "val is 1 of the 4 images of train, held out by ratio (--val 0.25 --seed 0)" in out
    assert "leakage" in out or "duplicate image" in out
    assert "nothing from" not in out
    assert manifest.labels == ("cell",)
    assert records_of([a, b], tmp_path / "again", **options).fingerprint == manifest.fingerprint


def test_folder_that_lacks_a_split_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_voc(tmp_path / "a", {"trainval": ["1", "2"]})
    b = write_voc(tmp_path / "b", {"train": ["3"], "val": ["4"]})
    records_of([a, b], tmp_path / "records", labels=(), splits=("trainval",))
    assert "trainval: nothing from b, without a split of that name" in capsys.readouterr().out


def test_folders_are_joined(tmp_path: Path) -> None:
    """Labels united, most frequent first; ids that collide get their folder's name in front."""
    a = write_voc(tmp_path / "a", {"train": ["1", "2"], "val": ["9"]}, {"1": "disc"})
    b = write_voc(tmp_path / "b", {"train": ["1", "3", "4"], "test": ["7"]}, {"1": "cross"})
    (b / "Annotations/3.xml").write_text("<annotation")
    (b / "JPEGImages/1.png").write_bytes((b / "JPEGImages/7.png").read_bytes())
    (b / "JPEGImages/7.png").write_bytes((b / "JPEGImages/3.png").read_bytes())
    folders = Folders(
        FolderSettings(
            (
                a,
                b,
            ),
            val=0,
        )
    )
    assert ids(folders, "train") == ["a-1", "2", "b-1", "4"]
    assert folders.labels(("train", "val")) == ("cell", "cross", "disc")
    assert folders.read("train").labels == ("cell", "cross", "disc")
    assert ids(folders, "val") == ["9"]
    assert folders.without("val") == ["b"]
    assert folders.without("train") == []


def test_problems_name_the_folder(tmp_path: Path) -> None:
    a = write_voc(tmp_path / "x/voc", {"train": ["1"], "val": ["2"]})
    b = write_voc(tmp_path / "y/voc", {"train": ["3"], "val": ["4", "4"]})
    (b / "Annotations/3.xml").write_text("<annotation")
    (a / "Annotations/5.xml").write_text("<annotation/>")
    folders = Folders(
        FolderSettings(
            (
                a,
                b,
            )
        )
    )
    assert [problem.file for problem in folders.read("train").problems] == [
        "y/voc/Annotations/3.xml"
    ]
    assert [problem.file for problem in folders.read("val").problems] == [
        "y/voc/ImageSets/Main/val.txt"
    ]
    assert [problem.file for problem in folders.strays()] == ["x/voc/Annotations/5.xml"]
    assert [p.file for p in Folders(FolderSettings((a,))).strays()] == ["Annotations/5.xml"]


def test_images_of_one_name_in_one_folder(rendered: Path, tmp_path: Path) -> None:
    """YOLO and COCO name images by path; an id is a file's name, so it takes the path's parts."""
    path = shutil.copytree(rendered / "yolo", tmp_path / "yolo")
    for part, suffix in (("images", "jpg"), ("labels", "txt")):
        shutil.move(
            path / f"valid/{part}/smear-6.{suffix}", path / f"valid/{part}/smear-1.{suffix}"
        )
    folders = Folders(FolderSettings((path,)))
    assert ids(folders, "val") == ["valid-images-smear-1.jpg"]
    assert ids(folders, "train")[:2] == ["train-images-smear-1.jpg", "smear-2"]


def test_same_folder_twice(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1"]})
    with pytest.raises(problems.DataError, match="the same folder twice"):
        Folders(
            FolderSettings(
                (
                    path,
                    path / "../voc",
                )
            )
        )
    with pytest.raises(problems.DataError, match="expected one folder or more"):
        Folders(FolderSettings(()))


def test_classes_are_renamed_and_dropped(tmp_path: Path) -> None:
    names = {"1": "rbc", "2": "Erythrocyte", "3": "dust", "4": "wbc"}
    path = write_voc(tmp_path / "voc", {"train": list(names), "val": ["5"]}, names)
    folders = Folders(
        FolderSettings(
            (path,),
            rename=(
                "rbc=RBC",
                "Erythrocyte=RBC",
                "dust=",
                "wbc=rbc",
            ),
        )
    )
    dataset = folders.read("train")
    assert dataset.labels == ("RBC", "rbc")
    assert [annotation.labels for annotation in dataset.annotations] == [
        ("RBC",),
        ("RBC",),
        (),
        ("rbc",),
    ]
    assert dataset.problems == ()
    folders.check_renames(("train", "val"))


def test_class_to_rename_that_does_not_occur(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2", "3"], "val": ["4"]}, {"1": "disc"})
    folders = Folders(FolderSettings((path,), rename=("cross=disc",)))
    with pytest.raises(
        problems.DataError, match="no box has the class 'cross'; classes here: cell, disc"
    ):
        folders.check_renames(("train", "val"))


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (["cell"], "expected old=new, or old= to drop the class, found 'cell'"),
        (["=cell"], "expected old=new"),
        (["cell= a"], "printable class names"),
        (["cell=a", "cell=b"], "'cell' has two new names, 'a' and 'b'"),
    ],
)
def test_renames_are_checked(tmp_path: Path, rename: list[str], message: str) -> None:
    with pytest.raises(problems.DataError, match=message):
        Folders(FolderSettings((tmp_path,), rename=tuple(rename)))


def test_split_that_no_folder_has(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2"]})
    with pytest.raises(problems.BadSplitError, match="no split test; splits here: train, val"):
        Folders(FolderSettings((path,))).read("test")
