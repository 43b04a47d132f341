"""TFRecords: what goes in comes out, other tools can read them, and half of them is none."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from training.data import records, voc
from training.data.annotations import DataError
from training.render import smears

LABELS = ("RBC", "WBC", "Platelets")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A sound VOC folder: 5 images in train, 1 in val."""
    path = tmp_path_factory.mktemp("rendered") / "voc"
    assert smears.render_smears(smears.RenderSettings(path, count=6, width=160, height=120)) == 0
    return path


@pytest.fixture
def folder(rendered: Any, tmp_path: Path) -> Any:
    """A copy to write flaws into."""
    return shutil.copytree(rendered, tmp_path / "voc")


@pytest.fixture
def output(tmp_path: Path) -> Any:
    return tmp_path / "records"


def run(folder: Path, output: Path, **changes: Any) -> Any:
    return records.write_records(
        records.RecordsSettings((folder,), output, **({"labels": LABELS} | changes))
    )


def set_image(folder: Path, image_id: str, image: Any, suffix: str, **options: Any) -> Any:
    """Replace an image of the folder by a Pillow image in another format."""
    (folder / f"JPEGImages/{image_id}.jpg").unlink()
    image.save(folder / f"JPEGImages/{image_id}{suffix}", **options)


def replace_in_xml(folder: Path, image_id: str, old: str, new: str) -> Any:
    path = folder / f"Annotations/{image_id}.xml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_round_trip(rendered: Any, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Boxes, classes and files come back as they are, in every split."""
    assert run(rendered, output, shards=2) == 0
    assert "train: 5 images in 2 files; RBC" in capsys.readouterr().out
    for split in ("train", "val"):
        annotations = {a.image_id: a for a in voc.Folder(rendered).read(split, LABELS).annotations}
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


def test_parse_gives_the_same_eagerly_and_mapped(rendered: Any, output: Path) -> None:
    run(rendered, output, shards=1)
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
    assert run(folder, output) == 0
    example = next(iter(records.dataset(records.load_manifest(output, "train"))))
    assert example["boxes_xyxy"].shape == (0, 4)
    assert example["classes"].shape == (0,)
    assert example["difficult"].shape == (0,)


def test_feature_keys_are_the_object_detection_apis(rendered: Any, output: Path) -> None:
    """Its decoder's keys and types, with classes from 1 and a hash of the file."""
    run(rendered, output)
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


def test_label_files(rendered: Any, output: Path) -> None:
    run(rendered, output)
    assert (output / "labels.txt").read_text() == "RBC\nWBC\nPlatelets\n"
    assert records.label_map(('say "a\\b"',)) == 'item {\n  id: 1\n  name: "say \\"a\\\\b\\""\n}\n'
    assert (output / "label_map.pbtxt").read_text() == records.label_map(LABELS)


def test_bad_annotations_are_reported_and_left_out(
    folder: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_in_xml(folder, "smear-1", "<xmin>", "<xmin>9999")
    replace_in_xml(folder, "smear-2", "<name>RBC", "<name>blob")
    (folder / "JPEGImages/smear-3.jpg").write_bytes(b"no image")
    counts = [len(a.labels) for a in voc.Folder(folder).read("train", LABELS).annotations]
    assert run(folder, output) == 0
    out = capsys.readouterr().out
    assert "1 x zero area (image left out)" in out
    assert "Annotations/smear-2.xml, object" in out
    assert "JPEGImages/smear-3.jpg: does not decode" in out
    manifest = records.load_manifest(output, "train")
    found = {
        e["image_id"]: len(e["classes"]) for e in records.dataset(manifest).as_numpy_iterator()
    }
    assert sorted(found) == [b"smear-2", b"smear-4", b"smear-5"]
    assert sum(found.values()) == sum(counts)


def test_image_is_stored_upright(
    folder: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The camera lay on its side: stored pixels are turned, as boxes already are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = folder / "JPEGImages/smear-6.jpg"
    with Image.open(path) as image:
        image.save(path, exif=exif, quality=95)
    xml = "<annotation><size><width>120</width><height>160</height></size></annotation>"
    (folder / "Annotations/smear-6.xml").write_text(xml, encoding="utf-8")
    assert run(folder, output) == 0
    assert "1 images turned upright, converted or shrunk" in capsys.readouterr().out
    example = next(iter(records.dataset(records.load_manifest(output, "val"))))
    pixels = tf.io.decode_image(example["encoded"]).numpy()
    assert pixels.shape == (160, 120, 3)
    upright = cv2.imread(str(path))[..., ::-1]  # OpenCV turns by EXIF
    assert np.abs(pixels.astype(int) - upright).mean() < 3


@pytest.mark.parametrize(
    ("mode", "suffix", "stored", "encoded_again"),
    [
        ("RGB", ".png", b"png", 0),
        ("P", ".png", b"png", 0),
        ("RGB", ".bmp", b"bmp", 0),
        ("P", ".bmp", b"png", 1),
        ("L", ".jpg", b"jpeg", 0),
        ("CMYK", ".jpg", b"jpeg", 0),
        ("RGB", ".jfif", b"jpeg", 0),
        ("RGB", ".webp", b"png", 1),
        ("RGB", ".tif", b"png", 1),
        ("CMYK", ".TIFF", b"png", 1),
    ],
)
def test_formats(
    folder: Path,
    output: Path,
    mode: str,
    suffix: str,
    stored: Any,
    encoded_again: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever the file, TensorFlow reads from the record what OpenCV reads from the file."""
    with Image.open(folder / "JPEGImages/smear-6.jpg") as image:
        set_image(folder, "smear-6", image.convert(mode), suffix)
    assert run(folder, output, splits=("val",)) == 0
    assert ("encoded again" in capsys.readouterr().out) == bool(encoded_again)
    manifest = records.load_manifest(output, "val")
    serialized = next(tf.data.TFRecordDataset(manifest.paths).as_numpy_iterator())
    feature = tf.train.Example.FromString(serialized).features.feature
    assert feature["image/format"].bytes_list.value[0] == stored
    pixels = tf.io.decode_image(feature["image/encoded"].bytes_list.value[0], channels=3).numpy()
    opened = cv2.imread(str(folder / f"JPEGImages/smear-6{suffix}"))[..., ::-1]
    assert np.abs(pixels.astype(int) - opened).mean() < 3


@pytest.mark.parametrize(("suffix", "error"), [(".png", 0.5), (".jpg", 4)])
def test_large_photos_are_shrunk(
    folder: Path, output: Path, capsys: pytest.CaptureFixture[str], suffix: str, error: float
) -> None:
    """To the average of their pixels, whose boxes stay where they are; others stay as they are."""
    small = (folder / "JPEGImages/smear-1.jpg").read_bytes()
    coarse = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    photo = cv2.resize(coarse, (800, 600), interpolation=cv2.INTER_CUBIC)
    set_image(folder, "smear-6", Image.fromarray(photo), suffix, quality=95)
    box = "<bndbox><xmin>201</xmin><ymin>151</ymin><xmax>400</xmax><ymax>450</ymax></bndbox>"
    xml = f"<annotation><object><name>RBC</name>{box}</object></annotation>"
    (folder / "Annotations/smear-6.xml").write_text(xml, encoding="utf-8")
    assert run(folder, output, max_side=400) == 0
    assert (
        "1 images turned upright, converted or shrunk, and encoded again" in capsys.readouterr().out
    )
    (example,) = records.dataset(records.load_manifest(output, "val")).as_numpy_iterator()
    assert (example["height"], example["width"]) == (300, 400)
    np.testing.assert_allclose(example["boxes_xyxy"], [[0.25, 0.25, 0.5, 0.75]])
    stored = tf.io.decode_image(example["encoded"]).numpy().astype(int)
    average = photo.reshape(300, 2, 400, 2, 3).mean((1, 3))
    assert np.abs(stored - average).mean() <= error
    train = records.dataset(records.load_manifest(output, "train")).as_numpy_iterator()
    assert small in [example["encoded"] for example in train]


def test_photos_stay_as_they_are_without_a_largest_side(folder: Path, output: Path) -> None:
    set_image(folder, "smear-6", Image.new("RGB", (1700, 20)), ".png")
    size = "<size><width>1700</width><height>20</height></size>"
    (folder / "Annotations/smear-6.xml").write_text(f"<annotation>{size}</annotation>")
    for max_side, width in ((0, 1700), (1700, 1700), (1600, 1600)):
        assert run(folder, output, max_side=max_side) == 0
        (example,) = records.dataset(records.load_manifest(output, "val")).as_numpy_iterator()
        assert example["width"] == width


def test_photo_that_is_lost_while_writing(folder: Path, output: Path) -> None:
    """It is left out and named; the others are written."""
    dataset = voc.Folder(folder).read("train", LABELS)
    (folder / "JPEGImages/smear-1.jpg").unlink()
    (folder / "JPEGImages/smear-2.jpg").write_bytes(b"no image")
    Image.new("RGB", (20, 10)).save(folder / "JPEGImages/smear-3.jpg")
    ((manifest, tally),) = records.write_splits([dataset], output)
    assert manifest.count == 2
    found = [example["image_id"] for example in records.dataset(manifest).as_numpy_iterator()]
    assert sorted(found) == [b"smear-4", b"smear-5"]
    assert [problem.kind for problem in tally.problems] == ["bad image"] * 3
    assert "expected 160x120" in tally.problems[2].message


def test_same_input_gives_the_same_bytes(rendered: Any, output: Path, tmp_path: Path) -> None:
    run(rendered, output)
    run(rendered, tmp_path / "again")
    run(rendered, tmp_path / "one", shards=1)
    first = records.load_manifest(output, "train")
    assert (
        dataclasses.replace(records.load_manifest(tmp_path / "again", "train"), directory=output)
        == first
    )
    one = records.load_manifest(tmp_path / "one", "train")
    assert one.fingerprint == first.fingerprint
    for shard in first.shards:
        assert hashlib.sha256((output / shard.name).read_bytes()).hexdigest() == shard.sha256


def test_fingerprint_follows_the_content(folder: Path, output: Path, tmp_path: Path) -> None:
    run(folder, output)
    replace_in_xml(folder, "smear-1", "<difficult>0", "<difficult>1")
    run(folder, tmp_path / "changed")
    before, after = (records.load_manifest(p, "train") for p in (output, tmp_path / "changed"))
    assert before.fingerprint != after.fingerprint


def test_never_more_shards_than_images(rendered: Any, output: Path) -> None:
    run(rendered, output, shards=100)
    assert len(records.load_manifest(output, "val").shards) == 1
    assert len(records.load_manifest(output, "train").shards) == 5


def test_old_shards_do_not_stay_behind(rendered: Any, output: Path) -> None:
    run(rendered, output, shards=4)
    run(rendered, output, shards=2)
    names = {path.name for path in output.glob("train-*")}
    assert names == {shard.name for shard in records.load_manifest(output, "train").shards}


def test_labels_are_those_of_all_splits(folder: Path, output: Path) -> None:
    """A class that only val has is a class of train too."""
    for image_id in ("smear-1", "smear-6"):
        (folder / f"Annotations/{image_id}.xml").write_text("<annotation/>", encoding="utf-8")
    path = folder / "Annotations/smear-6.xml"
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    text = f"<object><name>rare</name><bndbox>{box}</bndbox></object>"
    path.write_text(f"<annotation>{text}</annotation>", encoding="utf-8")
    assert run(folder, output, labels=()) == 0
    train, val = (records.load_manifest(output, split).labels for split in ("train", "val"))
    assert train == val
    assert train[0] == "RBC"
    assert train[-1] == "rare"


def test_split_with_other_labels_is_not_mixed_in(rendered: Any, output: Path) -> None:
    run(rendered, output)
    with pytest.raises(DataError, match="was written with the labels RBC, WBC, Platelets"):
        run(rendered, output, splits=("val",), labels=("WBC", "RBC"))
    assert run(rendered, output, labels=("WBC", "RBC")) == 0
    assert records.load_manifest(output, "train").labels == ("WBC", "RBC")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("moment", range(6))
def test_killed_while_publishing(
    folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Whatever file it dies at, a split is whole, or `load_manifest` refuses it."""
    run(folder, output, splits=("train",), shards=3)
    replace_in_xml(folder, "smear-1", "<difficult>0", "<difficult>1")
    replace = type(output).replace
    calls: list[Path] = []

    def die_at(self: Path, target: Path) -> Path:
        if len(calls) == moment:
            raise Killed
        calls.append(target)
        return replace(self, target)

    monkeypatch.setattr(type(output), "replace", die_at)
    with pytest.raises(Killed):
        run(folder, output, splits=("train",), shards=3)
    monkeypatch.undo()
    with pytest.raises(records.ManifestError, match=r"train.json is missing.*write them with"):
        records.load_manifest(output, "train")
    assert run(folder, output, splits=("train",), shards=3) == 0
    assert records.load_manifest(output, "train").count == 5


def test_killed_while_writing_leaves_the_older_split(
    rendered: Any, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(rendered, output)
    before = records.load_manifest(output, "train")
    leftover = output / ".partial-killed"
    leftover.mkdir()
    (leftover / "train-00000-of-00004.tfrecord").write_bytes(b"half")

    def die(annotation: Any, max_side: int) -> Any:
        raise Killed

    monkeypatch.setattr(records, "stored", die)
    with pytest.raises(Killed):
        run(rendered, output)
    assert records.load_manifest(output, "train") == before
    assert not leftover.exists()


def test_manifest_that_does_not_fit(rendered: Any, output: Path) -> None:
    run(rendered, output)
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": 0}, "expected 1 shard or more, found 0"),
        ({"max_side": 100}, "--max-side: expected 0, or 300 or more, found 100"),
        ({"splits": ("test",)}, "no split test; splits here: train, val, trainval"),
    ],
)
def test_what_cannot_be_written(
    rendered: Any, output: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(rendered, output, **changes)
    assert not list(output.parent.rglob("*.tfrecord"))


def test_folders_that_cannot_be_written(folder: Path, output: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no layout that is known here"):
        run(folder / "ImageSets", output)
    with pytest.raises(FileExistsError):
        run(folder, folder / "Annotations/smear-1.xml")
    for path in (folder / "JPEGImages").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no usable image or no class"):
        run(folder, output)
    assert not list(tmp_path.rglob("*.tfrecord"))
