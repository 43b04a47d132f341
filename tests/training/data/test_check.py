"""The report on annotated folders: what is there, what is wrong, and the exit code."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.training.data.smears import write_voc
from training.__main__ import main
from training.data import check
from training.render import smears


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    path = tmp_path / "voc"
    assert smears.render_smears(smears.RenderSettings(path, count=4, width=160, height=120)) == 0
    return path


def test_nothing_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.check_folders(check.CheckSettings((folder,))) == 0
    out = capsys.readouterr().out
    assert "train: 3 images" in out
    assert "val: 1 images" in out
    assert "RBC" in out
    assert out.endswith("nothing is wrong\n")


def test_table_counts_and_measures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    xml = "<annotation>{}</annotation>"
    element = (
        "<object><name>cell</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
    )
    boxes = element.format(10, 20) + element.format(30, 40)
    (folder / "Annotations/smear-4.xml").write_text(xml.format(boxes), encoding="utf-8")
    check.check_folders(check.CheckSettings((folder,), splits=("val",)))
    row = next(line for line in capsys.readouterr().out.splitlines() if "cell" in line)
    assert row.split() == ["cell", "2", "2", "10x20", "12x22", "20x30", "28x38", "30x40"]


def without_objects(folder: Path, *image_ids: str) -> None:
    size = "<size><width>160</width><height>120</height></size>"
    for image_id in image_ids:
        path = folder / f"Annotations/{image_id}.xml"
        path.write_text(f"<annotation>{size}</annotation>", encoding="utf-8")


@pytest.mark.parametrize("full", [False, True])
def test_three_of_a_kind_are_named_or_all(
    full: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        (folder / f"Annotations/gone-{number}.xml").write_text("<annotation/>", encoding="utf-8")
        for lists in folder.glob("ImageSets/Main/train.txt"):
            lists.write_text(f"{lists.read_text().strip()}\ngone-{number}\n")
    assert check.check_folders(check.CheckSettings((folder,), full=full)) == 1
    out = capsys.readouterr().out
    assert ("gone-3" in out, "and 1 more" in out) == (full, not full)


def test_image_without_boxes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_objects(folder, "smear-1", "smear-2")
    assert check.check_folders(check.CheckSettings((folder,))) == 0
    assert "train: 3 images, 2 of them without boxes" in capsys.readouterr().out


def test_split_without_boxes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """mAP would be 0 whatever was learned."""
    without_objects(folder, "smear-4")
    assert check.check_folders(check.CheckSettings((folder,))) == 1
    out = capsys.readouterr().out
    assert "val: none of its 1 images has a box: nothing to learn or measure" in out


def test_a_class_of_few_boxes_is_told_what_map_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = ([f"{split}-{n}" for n in range(12)] for split in ("train", "val"))
    names = {"train-0": "big cat", "train-1": "big cat", "train-2": "dog", "val-0": "dog"}
    folder = write_voc(tmp_path / "voc", {"train": train, "val": val}, names)
    check.check_folders(check.CheckSettings((folder,)))
    told = [line for line in capsys.readouterr().out.splitlines() if "few boxes" in line]
    assert told == [
        "few boxes: big cat has 2 in train and 0 in val, so mAP tells nothing of it: annotate "
        "more, train with --repeat-rare 0.5 --weigh-rare 0.5, or leave it out with "
        "--rename 'big cat='",
        "few boxes: cell has 9 in train and 11 in val, so each that is found or not is 9% of its "
        "AP, which counts in mAP like any other class's: annotate more, train with "
        "--repeat-rare 0.5 --weigh-rare 0.5, or leave it out with --rename cell=",
        "few boxes: dog has 1 in train and 1 in val, so each that is found or not is 100% of its "
        "AP, which counts in mAP like any other class's: annotate more, train with "
        "--repeat-rare 0.5 --weigh-rare 0.5, or leave it out with --rename dog=",
    ]


def test_what_records_copes_with_is_a_remark(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check && records` goes on; --strict stops at remarks, too."""
    (folder / "ImageSets/Main/val.txt").write_text("smear-4\nsmear-4\n")
    path = folder / "Annotations/smear-1.xml"
    path.write_text(path.read_text().replace("<width>160<", "<width>0<"))
    assert check.check_folders(check.CheckSettings((folder,))) == 0
    out = capsys.readouterr().out
    assert "2 remarks (kept: 2)" in out
    assert "problem" not in out
    assert out.endswith("nothing is wrong\n")
    assert check.check_folders(check.CheckSettings((folder,), strict=True)) == 1


def test_picture_twice_is_a_remark_and_leakage_a_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = folder / "JPEGImages"
    (images / "smear-2.jpg").write_bytes((images / "smear-1.jpg").read_bytes())
    assert check.check_folders(check.CheckSettings((folder,))) == 0
    assert "1 x duplicate image (image left out)" in capsys.readouterr().out
    (images / "smear-2.jpg").write_bytes((images / "smear-4.jpg").read_bytes())
    assert check.check_folders(check.CheckSettings((folder,))) == 1
    assert "1 problem (image left out: 1)\n1 x leakage" in capsys.readouterr().out


def test_refuses_what_records_would(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class to be renamed may be in `trainval` alone, and a split be neither train nor val."""
    lists = folder / "ImageSets/Main"
    for name, other in (("train", "monday"), ("val", "tuesday")):
        (lists / f"{name}.txt").rename(lists / f"{other}.txt")
    (lists / "trainval.txt").unlink()
    assert check.check_folders(check.CheckSettings((folder,))) == 1
    out = capsys.readouterr().out
    assert "neither train nor val; name the splits with --splits; here are: monday, tuesday" in out
    assert check.check_folders(check.CheckSettings((folder,), splits=("monday",))) == 0


def test_objects_that_are_small_at_the_input(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.check_folders(check.CheckSettings((folder,))) == 0
    assert "small objects" not in capsys.readouterr().out
    for file in (folder / "Annotations").glob("*.xml"):
        tree = ElementTree.parse(file)
        for box in tree.iter("bndbox"):
            edges = {edge.tag: edge for edge in box}
            for axis in "xy":
                edges[f"{axis}max"].text = str(float(edges[f"{axis}min"].text or 0) + 4)
        tree.write(file)
    check.check_folders(check.CheckSettings((folder,)))
    words = "small objects: The median object is 12 pixels at an input of 320x320: train in tiles"
    assert words in capsys.readouterr().out


def test_problems_are_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """smear-1 is in train and in trainval, and a third file is in no split."""
    (folder / "JPEGImages/smear-1.jpg").write_bytes(b"no image")
    (folder / "Annotations/stray.xml").write_text("<annotation/>", encoding="utf-8")
    assert check.check_folders(check.CheckSettings((folder,))) == 1
    out = capsys.readouterr().out
    assert "2 problems (image left out: 2)" in out
    assert out.count("JPEGImages/smear-1.jpg: does not decode") == 1
    assert "Annotations/stray.xml" in out


def test_classes_outside_the_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        check.check_folders(check.CheckSettings((folder,), labels=("RBC", "WBC", "Platelets"))) == 0
    )
    assert check.check_folders(check.CheckSettings((folder,), labels=("RBC",))) == 1
    assert "unknown class (box left out)" in capsys.readouterr().out


def test_bad_split_does_not_hide_the_rest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ImageSets/Main/train.txt").write_text("\n")
    assert check.check_folders(check.CheckSettings((folder,))) == 1
    out = capsys.readouterr().out
    assert "val: 1 images" in out
    assert "1 x bad split" in out
    assert "ImageSets/Main/train.txt" in out


def test_folder_that_cannot_be_checked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    assert main(["check", str(tmp_path / "other")]) == 1
    assert "no layout that is known here; looked for\n  Pascal VOC:" in capsys.readouterr().err
    assert main(["check", str(folder / "no")]) == 1
    assert "no such folder" in capsys.readouterr().err
    assert main(["check"]) == 2
    assert "expected one folder or more" in capsys.readouterr().err


def test_options_reach_the_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ImageSets/Main/val.txt").unlink()
    (folder / "ImageSets/Main/trainval.txt").unlink()
    settings = check.CheckSettings((folder,), rename=("RBC=red", "Platelets="), val=0.4)
    assert check.check_folders(settings) == 0
    out = capsys.readouterr().out
    assert "val is 1 of the 3 images of train, held out by ratio" in out
    assert "red" in out
    assert "Platelets" not in out
    assert main(["check", str(folder), "--rename", "cross=red"]) == 1
    assert "no box has the class 'cross'; classes here: RBC" in capsys.readouterr().err


def test_split_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.check_folders(check.CheckSettings((folder,), splits=("test",))) == 1
    assert "no split test; splits here: train, val, trainval" in capsys.readouterr().out
