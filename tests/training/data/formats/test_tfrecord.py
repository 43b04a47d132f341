"""TFRecords as a source: this project's own, and others'."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from training.__main__ import main
from training.data import (
    check,
    coco_export,
    problems,
    records,
    records_writer,
)
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.layouts import open_folder
from training.render import smears


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smears")
    assert (
        smears.render_smears(smears.RenderSettings(path / "voc", count=4, width=160, height=120))
        == 0
    )
    assert (
        records_writer.write_records(
            records_writer.RecordsSettings((path / "voc",), path / "records", shards=2)
        )
        == 0
    )
    return path


def test_own_records_are_read_again(folder: Path, tmp_path: Path) -> None:
    """To the last bit: the same images, boxes, classes and ids, so the same fingerprint."""
    assert check.check_folders(check.CheckSettings((folder / "records",))) == 0
    assert (
        records_writer.write_records(
            records_writer.RecordsSettings((folder / "records",), tmp_path / "again")
        )
        == 0
    )
    for split in ("train", "val"):
        first, again = (
            list(records.dataset(records.load_manifest(path, split)).as_numpy_iterator())
            for path in (folder / "records", tmp_path / "again")
        )
        order = {example["image_id"]: example for example in again}
        for example in first:
            other = order[example["image_id"]]
            assert other["encoded"] == example["encoded"]
            np.testing.assert_allclose(other["boxes_xyxy"], example["boxes_xyxy"], atol=1e-6)


def test_records_that_somebody_else_wrote(test_data: Path) -> None:
    """Their shares are VOC's numbers, which count from 1: a pixel further right and down."""
    path = test_data / "data/raccoon"
    found = Folders(FolderSettings((path,), format="tfrecord")).read("test").annotations
    expected = {
        item.image_id: item
        for item in Folders(FolderSettings((path,), val=0)).read("train").annotations
    }
    assert len(found) == 40
    for item in found:
        if item.image_id in expected:  # not a picture that is in there under another name
            other = expected[item.image_id].boxes_xyxy
            np.testing.assert_allclose(
                np.sort(item.boxes_xyxy, axis=0), np.sort(other, axis=0), atol=1.001
            )


def example(**features: list[bytes]) -> bytes:
    fields = {
        key.replace("_", "/"): tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        for key, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()


@pytest.mark.parametrize(
    ("serialized", "message"),
    [(example(image_filename=[b"../../a.png"]), "no image/encoded"), (example(), "no image/enco")],
)
def test_example_without_image(tmp_path: Path, serialized: bytes, message: str) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "train.record")) as writer:
        writer.write(serialized)
    (problem,) = open_folder(tmp_path).read("train").problems
    assert message in problem.message
    assert problem.file == "train.record"


@pytest.mark.parametrize("content", [b"no records" * 9, b""])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.record").write_bytes(content)
    assert main(["check", str(tmp_path)]) == 1
    with pytest.raises(problems.BadSplitError, match="not readable as TFRecords"):
        open_folder(tmp_path).read("train")


def test_images_without_files_cannot_be_named(folder: Path, tmp_path: Path) -> None:
    settings = coco_export.CocoSettings((folder / "records",), tmp_path / "val.json")
    with pytest.raises(problems.DataError, match="its images are in TFRecords and have no fil"):
        coco_export.write_coco(settings)
