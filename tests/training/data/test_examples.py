"""How an image is stored: as it is, or encoded again."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.training.data.smears import write_records
from training.data import records


def set_image(folder: Path, image_id: str, image: Any, suffix: str, **options: Any) -> Any:
    """Replace an image of the folder by a Pillow image in another format."""
    (folder / f"JPEGImages/{image_id}.jpg").unlink()
    image.save(folder / f"JPEGImages/{image_id}{suffix}", **options)


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
    assert write_records(folder, output) == 0
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
    assert write_records(folder, output, splits=("val",)) == 0
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
    assert write_records(folder, output, max_side=400) == 0
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
        assert write_records(folder, output, max_side=max_side) == 0
        (example,) = records.dataset(records.load_manifest(output, "val")).as_numpy_iterator()
        assert example["width"] == width
