"""Photos that training never sees, however they were saved since; no other is taken for one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data.smears import copy_image, ids, write_voc
from training.data import check, coco_export, decoding
from training.data.annotations import Item
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.frozen import Frozen
from training.data.problems import DataError


def _items(paths: Sequence[Path]) -> list[Item]:
    return [Item(p.stem, p.name, p, decoding.inspect_image(p), (), ()) for p in paths]


def _save_copies(photo: Path, folder: Path, cut: Sequence[float]) -> list[Path]:
    """At quality 50, at half the size, cut, and lying on its side with an EXIF orientation."""
    image = Image.open(photo).convert("RGB")
    width, height = image.size
    left, top, right, bottom = (
        round(share * side) for share, side in zip(cut, 2 * image.size, strict=True)
    )
    small = image.resize((width // 2, height // 2))
    paths = [folder / f"{photo.stem}-{name}.jpg" for name in ("low", "half", "cut", "turned")]
    image.save(paths[0], quality=50)
    small.save(paths[1])
    image.crop((left, top, width - right, height - bottom)).save(paths[2], quality=50)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(paths[3], exif=exif)
    return paths


@pytest.fixture
def test_set(folder: Path, tmp_path: Path) -> Path:
    """Two photos of the folder, one of train and one of val, saved anew under other names."""
    path = tmp_path / "test"
    path.mkdir()
    for number in (2, 6):
        photo = Image.open(folder / f"JPEGImages/smear-{number}.jpg")
        photo.resize((80, 60)).save(path / f"{number}.png")
    return path


def test_nothing_is_frozen(folder: Path) -> None:
    assert len(Frozen(())) == 0
    assert ids(Folders(FolderSettings((folder,))), "val") == ["smear-6"]


def test_copies_are_left_out_of_train_and_val_and_told(
    folder: Path, test_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = check.CheckSettings((folder,), frozen=(test_set,), splits=("train",))
    folders = Folders(settings)
    assert ids(folders, "train") == ["smear-1", "smear-3", "smear-4", "smear-5"]
    assert ids(folders, "val") == []
    (problem,) = folders.read("val").problems
    assert (problem.kind, problem.fatal_for, problem.is_remark) == ("frozen", "image", True)
    assert str(problem).endswith(f"the same picture as {test_set / '6.png'}, which is frozen")
    check.check_folders(settings)
    assert "1 x frozen (image left out)" in capsys.readouterr().out


def test_the_frozen_set_itself_can_be_read(folder: Path, test_set: Path) -> None:
    (folder / "ImageSets/Main/test.txt").write_text("smear-2\n")
    folders = Folders(FolderSettings((folder,), frozen=(test_set,)))
    assert ids(folders, "test") == ["smear-2"]


def test_the_file_that_is_evaluated_with_is_what_is_frozen(folder: Path, tmp_path: Path) -> None:
    """`training coco` writes it, `serving publish --evaluation` reads it."""
    path = tmp_path / "frozen" / "val.json"
    assert coco_export.write_coco(coco_export.CocoSettings((folder,), path)) == 0
    folders = Folders(FolderSettings((folder,), frozen=(path,)))
    assert ids(folders, "val") == []
    assert len(ids(folders, "train")) == 5


def test_a_flat_picture_is_known_by_its_file(tmp_path: Path) -> None:
    voc = write_voc(tmp_path / "voc", {"train": ["1", "2"]})
    (tmp_path / "test").mkdir()
    copy_image(voc / "JPEGImages/2.png", tmp_path / "test/other.png")
    folders = Folders(FolderSettings((voc,), val=0, frozen=(tmp_path / "test",)))
    assert ids(folders, "train") == ["1"]


def test_what_cannot_be_frozen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--frozen .*: no photos in there"):
        Frozen((tmp_path,))
    for name, content in (("none.json", None), ("list.json", "[]"), ("val.json", "no JSON")):
        if content:
            (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=rf"--frozen .*{name}: expected a folder of photos, or"):
            Frozen((tmp_path / name,))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no JPEG")
    with pytest.raises(DataError, match=r"--frozen: .*broken\.jpg does not decode: "):
        Frozen((tmp_path,))


@pytest.mark.parametrize(("data", "scenes"), [("bccd/JPEGImages", 1), ("raccoon/images", 2)])
def test_on_real_photos(test_data: Path, tmp_path: Path, data: str, scenes: int) -> None:
    """Every second one is frozen. Of the others only those of one scene are taken for them.

    `test_no_false_alarm_among_real_photos` names those scenes.
    """
    photos = sorted((test_data / "data" / data).iterdir())
    held, others = photos[::2], photos[1::2]
    frozen = Frozen(held)
    assert sum(found is not None for found in frozen.find_copies(_items(others))) == scenes
    cuts = np.random.default_rng(0).uniform(0, 0.05, (len(held), 4))
    for photo, cut in list(zip(held, cuts, strict=True))[::24]:
        copies = frozen.find_copies(_items(_save_copies(photo, tmp_path, cut)))
        assert copies == [photo] * 4
