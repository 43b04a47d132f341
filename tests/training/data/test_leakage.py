"""What splits must not share."""

import shutil
from pathlib import Path

import cv2

from tests.training.data.smears import copy_image, frames, ids, kinds, numbered, write_voc
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders


def test_a_list_that_breaks_a_group_is_told(tmp_path: Path) -> None:
    clip = frames(3, 3)
    splits = {"train": clip[:4], "val": clip[4:7], "test": clip[7:]}
    folders = Folders(FolderSettings((write_voc(tmp_path / "voc", splits),), group_by=r"clip\d"))
    (problem,) = folders.read("train").problems
    assert (problem.kind, problem.fatal_for, problem.is_remark) == (
        "broken group",
        "nothing",
        False,
    )
    assert "of the group 'clip1', as is JPEGImages/clip1_F.png, which is in val" in str(problem)
    assert [p.kind for p in folders.read("val").problems] == ["broken group"]
    assert folders.read("test").problems == ()


def test_what_looks_alike_in_train_and_val_is_told(rendered: Path, tmp_path: Path) -> None:
    """The same photo saved anew under another name; a copy is leakage, and told once."""
    path = Path(shutil.copytree(rendered / "voc", tmp_path / "voc"))
    photo = cv2.imread(str(path / "JPEGImages/smear-1.jpg"))
    cv2.imwrite(str(path / "JPEGImages/smear-6.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 70])
    folders = Folders(FolderSettings((path,)))
    folders.read("train")
    (problem,) = folders.read("val").problems
    assert (problem.kind, problem.is_remark) == ("near-duplicate", True)
    assert "smear-6 looks like smear-1, which is in train: where they are of one" in str(problem)
    copy_image(path / "JPEGImages/smear-1.jpg", path / "JPEGImages/smear-6.jpg")
    folders = Folders(FolderSettings((path,)))
    assert kinds(folders, "train") == ["leakage"]
    assert kinds(folders, "val") == []


def test_image_of_val_is_left_out_of_train(tmp_path: Path) -> None:
    """Whatever its name, and in whichever folder: its figures would be too good."""
    a = write_voc(tmp_path / "a", {"train": ["1", "2"], "val": ["3"], "test": ["4"]})
    b = write_voc(tmp_path / "b", {"train": ["5", "6"], "val": ["7"]})
    copy_image(a / "JPEGImages/3.png", b / "JPEGImages/5.png")
    copy_image(a / "JPEGImages/4.png", a / "JPEGImages/1.png")
    folders = Folders(
        FolderSettings(
            (
                a,
                b,
            )
        )
    )
    assert ids(folders, "train") == ["2", "6"]
    assert ids(folders, "val") == ["3", "7"]
    first, second = folders.read("train").problems
    assert (first.kind, first.fatal_for, first.file) == ("leakage", "image", "a/JPEGImages/1.png")
    assert first.message == "the same picture as a/JPEGImages/4.png, which is in test"
    assert second.message == "the same picture as a/JPEGImages/3.png, which is in val"


def test_picture_twice_in_what_is_held_out_of_is_no_leakage(tmp_path: Path) -> None:
    """It is this program that would put the copies on both sides, and it does not."""
    path = write_voc(tmp_path / "voc", {"train": numbered(6)})
    for number in range(1, 6):
        copy_image(path / "JPEGImages/photo-0.png", path / f"JPEGImages/photo-{number}.png")
    assert set(kinds(Folders(FolderSettings((path,))), "train")) == {"duplicate image"}
    assert ids(Folders(FolderSettings((path,))), "train") == []


def test_val_is_train(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2"], "val": ["2", "1"], "test": ["1", "2"]})
    folders = Folders(FolderSettings((path,)))
    (problem,) = folders.read("train").problems
    assert (problem.kind, problem.fatal_for) == ("leakage", "split")
    assert problem.message == "train and val are one folder or list, in JPEGImages: name another"
    assert ids(folders, "train") == []
    assert ids(folders, "val") == ["1", "2"] or ids(folders, "val") == ["2", "1"]


def test_id_in_train_and_val(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2"], "val": ["2"], "trainval": ["1", "2"]})
    folders = Folders(FolderSettings((path,)))
    assert ids(folders, "train") == ["1"]
    assert kinds(folders, "train") == ["leakage"]
    assert kinds(folders, "trainval") == []


def test_picture_of_val_and_test_is_told_and_kept(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"val": ["1", "2"], "test": ["2"]})
    folders = Folders(FolderSettings((path,)))
    assert ids(folders, "val") == ["1", "2"]
    assert [(p.kind, p.fatal_for) for p in folders.read("val").problems] == [("leakage", "nothing")]


def test_picture_twice_in_a_split(tmp_path: Path) -> None:
    a = write_voc(tmp_path / "a", {"train": ["1", "2"]})
    b = write_voc(tmp_path / "b", {"train": ["3"]})
    copy_image(a / "JPEGImages/2.png", b / "JPEGImages/3.png")
    folders = Folders(
        FolderSettings(
            (
                a,
                b,
            ),
            val=0,
        )
    )
    assert ids(folders, "train") == ["1", "2"]
    problem = folders.read("train").problems[0]
    assert (problem.kind, problem.fatal_for) == ("duplicate image", "image")
    assert str(problem) == "b/JPEGImages/3.png: the same picture as a/JPEGImages/2.png"
