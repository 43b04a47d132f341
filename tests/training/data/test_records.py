"""TFRecords: what goes in comes out, other tools can read them, and half of them is none."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.training.data.smears import LABELS, write_records
from training.data import records
from training.data.formats import voc


def test_round_trip(voc_folder: Any, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Boxes, classes and files come back as they are, in every split."""
    assert write_records(voc_folder, output, shards=2) == 0
    assert "train: 5 images in 2 files; RBC" in capsys.readouterr().out
    for split in ("train", "val"):
        annotations = {
            a.image_id: a for a in voc.Folder(voc_folder).read(split, LABELS).annotations
        }
        manifest = records.load_manifest(output, split)
        assert manifest.count == len(annotations)
        for example in records.dataset(manifest).as_numpy_iterator():
            annotation = annotations.pop(example["image_id"].decode())
            assert example["encoded"] == annotation.image_path.read_bytes()
            assert (example["height"], example["width"]) == (120, 160)
            pixels = example["boxes_xyxy"] * [160, 120, 160, 120]
            np.testing.assert_allclose(pixels, annotation.boxes_xyxy, atol=1e-4)
            assert [LABELS[i] for i in example["classes"]] == list(annotation.labels)
            assert example["difficult"].tolist() == annotation.difficult.tolist()
        assert not annotations


def test_parse_gives_the_same_eagerly_and_mapped(voc_folder: Any, output: Path) -> None:
    write_records(voc_folder, output, shards=1)
    manifest = records.load_manifest(output, "val")
    serialized = next(iter(tf.data.TFRecordDataset(manifest.paths)))
    eager = records.parse(serialized)
    mapped = next(iter(records.dataset(manifest)))
    dtypes = {
        "image_id": tf.string,
        "encoded": tf.string,
        "height": tf.int32,
        "width": tf.int32,
        "boxes_xyxy": tf.float32,
        "classes": tf.int32,
        "difficult": tf.bool,
    }
    assert {key: value.dtype for key, value in eager.items()} == dtypes
    for key in dtypes:
        np.testing.assert_array_equal(eager[key].numpy(), mapped[key].numpy())


def test_image_without_boxes(folder: Path, output: Path) -> None:
    for path in (folder / "Annotations").iterdir():
        path.write_text("<annotation/>", encoding="utf-8")
    assert write_records(folder, output) == 0
    example = next(iter(records.dataset(records.load_manifest(output, "train"))))
    assert example["boxes_xyxy"].shape == (0, 4)
    assert example["classes"].shape == (0,)
    assert example["difficult"].shape == (0,)


def test_feature_keys_are_the_object_detection_apis(voc_folder: Any, output: Path) -> None:
    """Its decoder's keys and types, with classes from 1 and a hash of the file."""
    write_records(voc_folder, output)
    manifest = records.load_manifest(output, "val")
    serialized = next(tf.data.TFRecordDataset(manifest.paths).as_numpy_iterator())
    feature = tf.train.Example.FromString(serialized).features.feature
    assert set(feature) == set(records.FEATURES)
    texts = feature["image/object/class/text"].bytes_list.value
    ids = feature["image/object/class/label"].int64_list.value
    assert [LABELS[i - 1].encode() for i in ids] == list(texts)
    encoded = feature["image/encoded"].bytes_list.value[0]
    digest = hashlib.sha256(encoded).hexdigest().encode()
    assert feature["image/key/sha256"].bytes_list.value[0] == digest
    assert feature["image/format"].bytes_list.value[0] == b"jpeg"


def test_manifest_that_does_not_fit(voc_folder: Any, output: Path) -> None:
    write_records(voc_folder, output)
    shard = output / "train-00000-of-00004.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(records.ManifestError, match=r"00000-of-00004.tfrecord: expected \d+ bytes"):
        records.load_manifest(output, "train")
    shard.unlink()
    with pytest.raises(records.ManifestError, match="found no such file"):
        records.load_manifest(output, "train")
    with pytest.raises(records.ManifestError, match="no such records; splits here: train, val"):
        records.load_manifest(output, "test")


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"shards": [{"name": "a"}]})])
def test_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(records.ManifestError, match="not a manifest of records"):
        records.load_manifest(tmp_path, "train")
