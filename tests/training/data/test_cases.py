"""Folders as people really have them, `cases/` of the test data: each with its right values.

The README there says what is odd about each.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from training.__main__ import main
from training.data import check
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Right:
    """What a case has to give.

    images: how many images each split has.
    box: the first box of the first image of the first split, xyxy in pixels.
    exit_code: of `check`, where remarks are allowed.
    says: a part of what `check` prints.
    """

    images: dict[str, int]
    box: Box | None = None
    exit_code: int = 0
    says: str = ""


CASES = {
    "A01-labelimg-beside": Right({"train": 5, "val": 1}, (50, 40, 131, 111)),
    "A02-roboflow-voc": Right({"train": 6, "val": 2, "test": 1}, (50, 40, 131, 111)),
    "A02b-images-annotations": Right({"train": 5, "val": 1}, (50, 40, 131, 111)),
    "A03-cvat-voc-default": Right({"train": 5, "val": 1}, says="of the 6 images of default"),
    "A04-cvat-voc-subfolders": Right({"train": 5, "val": 1}, (50, 40, 131, 111)),
    "A20-names-end-in-1": Right({"train": 6, "val": 2}, (50, 40, 131, 111)),
    "A20b-only-train-list": Right({"train": 3, "val": 1}, says="of the 4 images of train"),
    "C01-labelstudio-backslash": Right({"train": 5, "val": 1}, (50, 40, 130, 110)),
    "C05-mixed-ids": Right(
        {"train": 4, "val": 0}, (50, 40, 130, 110), exit_code=1, says="image left out: 4"
    ),
    "C09-fiftyone": Right({"train": 5, "val": 1}, (50, 40, 130, 110)),
    "C11b-two-json": Right({"train": 5, "val": 1}, (50, 40, 130, 110), says="classes.json: no CO"),
    "E1-xmp-orientation": Right({"train": 5, "val": 1}),
    "E4-png-raw-profile": Right({"train": 5, "val": 1}),
    "Y01-labelstudio-yolo": Right({"train": 5, "val": 1}, (50, 40, 130, 110)),
    "Y03-cvat-yolo11": Right({"train": 5, "val": 1}, (50, 40, 130, 110)),
    "Y08b-webp-mixed": Right({"train": 14, "val": 2}, (50, 40, 130, 110)),
    "A06b-some-truncated": Right({"train": 5, "val": 1}, (50, 40, 131, 111)),
    "A18-resized-after": Right({"train": 0, "val": 0}, exit_code=1, says="`--resized yes` scales"),
    "A19-voc-normalised": Right({"train": 0}, exit_code=1, says="all boxes lie within 0 to 1"),
    "C19-normalised": Right({"train": 0}, exit_code=1, says="all boxes lie within 0 to 1"),
    "T5-val-empty": Right({"train": 4, "val": 2}, exit_code=1, says="none of its 2 images has a b"),
    "Y05i-val-is-train": Right(
        {"train": 0, "val": 6}, exit_code=1, says="train and val are one folder or list, in train/"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(test_data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    right, folder = CASES[name], test_data / "cases" / name
    assert check.check_folders(check.CheckSettings((folder,))) == right.exit_code
    printed = capsys.readouterr()
    assert right.says in printed.out + printed.err
    folders = Folders(FolderSettings((folder,)))
    splits = {split: folders.read(split).annotations for split in right.images}
    assert {split: len(found) for split, found in splits.items()} == right.images
    if right.box:
        first = min(splits[next(iter(splits))], key=lambda item: str(item.image_path))
        np.testing.assert_allclose(first.boxes_xyxy[0], right.box, atol=1e-3)


def test_photos_resized_after_they_were_annotated(test_data: Path) -> None:
    folders = Folders(
        FolderSettings((test_data / "cases/A18-resized-after",), val=0, resized="yes")
    )
    found = {item.image_id: item for item in folders.read("train").annotations}
    assert len(found) == 10
    np.testing.assert_allclose(found["img_2"].boxes_xyxy[0], (69.5, 34.5, 115, 70))


def test_check_refuses_whatever_records_would(test_data: Path, tmp_path: Path) -> None:
    """Every folder of the cases, those too whose right values nobody has written down here."""
    folders = sorted(path for path in (test_data / "cases").iterdir() if path.is_dir())
    assert folders
    codes = {
        folder.name: (
            main(["check", str(folder)]),
            main(["records", str(folder), "--output", str(tmp_path / folder.name)]),
        )
        for folder in folders
    }
    assert [name for name, (checked, written) in codes.items() if written and not checked] == []
