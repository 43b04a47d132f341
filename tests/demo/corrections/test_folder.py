"""What is stored of corrections, read again by `training`, and what is refused."""

import errno
import io
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from client import drawing
from client.inbox.photo import image_id, own_format
from demo.corrections.boxes import CorrectedBox, CorrectionError
from demo.corrections.folder import Corrections
from demo.corrections.people import OWNER, Person
from tests.client.bombs import huge_png
from training.data.annotations import Annotation
from training.data.layouts import open_folder

LABELS = ("RBC", "WBC", "Platelets")
WIDTH, HEIGHT = 60, 40
BOX = {"label": "WBC", "x1": 10, "y1": 5, "x2": 30, "y2": 25, "difficult": False}


def encoded(kind: str = "PNG", seed: int = 0, **options: Any) -> bytes:
    """A photo of 60x40 random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.fixture
def kept(tmp_path: Path) -> Corrections:
    return Corrections(tmp_path / "corrections", LABELS)


def folder_of(kept: Corrections) -> Path:
    return Path(kept.inbox.address)


def files(kept: Corrections) -> list[str]:
    """Names of all files of photos and annotations, of what counts and of what is proposed."""
    parts = ("JPEGImages", "Annotations")
    folders = [PurePosixPath(top, part) for top in ("", "proposals") for part in parts]
    found = (entry.path for folder in folders for entry in kept.inbox.storage.entries(folder))
    return sorted(path.name for path in found)


def read(kept: Corrections) -> tuple[Annotation, ...]:
    """What `training` reads in the folder, in which nothing may be wrong."""
    folder = open_folder(folder_of(kept))
    dataset = folder.read("all", LABELS)
    assert [*dataset.problems, *folder.strays()] == []
    return dataset.annotations


# ---------------------------------------------------------------- stored and read again


def test_a_photo_without_boxes_is_an_annotation_too(kept: Corrections) -> None:
    assert kept.save(encoded(), []).boxes == 0
    (annotation,) = read(kept)
    assert annotation.labels == ()
    assert (annotation.width, annotation.height) == (WIDTH, HEIGHT)


def test_boxes_are_read_again_as_they_were_drawn(kept: Corrections) -> None:
    photo = encoded("JPEG")
    boxes = [
        {"label": "RBC", "x1": 0, "y1": 0, "x2": WIDTH, "y2": HEIGHT, "difficult": False},
        {"label": "WBC", "x1": 58.4, "y1": 37.6, "x2": 60.0, "y2": 40, "difficult": True},
        {"label": "Platelets", "x1": 3, "y1": 4, "x2": 5, "y2": 6},
    ]
    assert kept.save(photo, boxes).boxes == 3
    (annotation,) = read(kept)
    assert annotation.labels == ("RBC", "WBC", "Platelets")
    assert annotation.boxes_xyxy.tolist() == [[0, 0, 60, 40], [58, 38, 60, 40], [3, 4, 5, 6]]
    assert annotation.difficult.tolist() == [False, True, False]
    assert annotation.truncated.tolist() == [True, True, False]
    assert kept.load(photo) == (
        CorrectedBox("RBC", 0, 0, 60, 40),
        CorrectedBox("WBC", 58, 38, 60, 40, difficult=True),
        CorrectedBox("Platelets", 3, 4, 5, 6),
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_the_photo_is_kept_byte_for_byte(kept: Corrections, kind: str) -> None:
    photo = encoded(kind) + b"trailing bytes"
    kept.save(photo, [BOX])
    (annotation,) = read(kept)
    assert annotation.image_path.read_bytes() == photo


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_boxes_are_those_of_the_photo_that_exif_turns_upright(
    kept: Corrections, kind: str, turn: int
) -> None:
    photo = encoded(kind, exif=orientation(turn))
    height, width = drawing.read(photo).shape[:2]
    kept.save(photo, [BOX | {"x2": width, "y2": height}])
    (annotation,) = read(kept)
    assert (annotation.width, annotation.height) == (width, height)
    assert annotation.boxes_xyxy.tolist() == [[10, 5, width, height]]
    assert annotation.image_path.read_bytes() == photo


def animation() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "green")]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


def turned_by_xmp_alone() -> bytes:
    """Pillow, and so `training`, obeys that; OpenCV and the served preprocessing do not."""
    return encoded("JPEG", xmp=b'<x tiff:Orientation="6"/>')


def with_old_exif() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\n\n\n00")
    return encoded("PNG", pnginfo=info)


def with_exif_twice() -> bytes:
    photo = encoded("JPEG", exif=orientation(1))
    start = photo.index(b"\xff\xe1")
    length = 2 + int.from_bytes(photo[start + 2 : start + 4], "big")
    return photo[: start + length] + photo[start:]


@pytest.mark.parametrize(
    "photo",
    [
        encoded("WEBP", quality=50, exif=orientation(6)),
        encoded("TIFF"),
        turned_by_xmp_alone(),
        with_old_exif(),
        with_exif_twice(),
        encoded("PNG", exif=b"Exif\0\0" + b"\0" * 2**17),
    ],
    ids=["webp", "tiff", "xmp", "old exif", "exif twice", "long exif"],
)
def test_what_training_would_not_see_the_same_becomes_a_lossless_copy(
    kept: Corrections, photo: bytes
) -> None:
    upright = drawing.read(photo)
    kept.save(photo, [BOX])
    (annotation,) = read(kept)
    assert annotation.image_path.suffix == ".png"
    assert np.array_equal(cv2.imread(str(annotation.image_path)), upright)
    assert (annotation.height, annotation.width) == upright.shape[:2]
    assert kept.load(photo) is not None


def test_an_animation_is_not_kept_as_it_is() -> None:
    assert own_format(animation(), HEIGHT, WIDTH) is None


def test_a_second_correction_replaces_the_first(kept: Corrections) -> None:
    kept.save(encoded(), [BOX, BOX])
    kept.save(encoded(), [BOX | {"label": "RBC"}])
    kept.save(encoded(seed=1), [BOX])
    assert sorted(annotation.labels for annotation in read(kept)) == [("RBC",), ("WBC",)]
    assert len(files(kept)) == 4


def test_what_nobody_corrected_is_not_there(kept: Corrections) -> None:
    assert kept.load(encoded()) is None
    kept.save(encoded(), [BOX])
    assert kept.load(encoded(seed=1)) is None


@pytest.mark.parametrize("text", ["", "<annotation>", "<a><object><name>RBC</name></object></a>"])
def test_an_annotation_that_was_spoilt_by_hand_is_none(kept: Corrections, text: str) -> None:
    kept.save(encoded(), [BOX])
    (folder_of(kept) / "Annotations" / f"{image_id(encoded())}.xml").write_text(text)
    assert kept.load(encoded()) is None


def test_entities_in_a_shared_annotation_are_not_expanded(kept: Corrections) -> None:
    kept.save(encoded(), [BOX])
    path = folder_of(kept) / "Annotations" / f"{image_id(encoded())}.xml"
    entity = '<!DOCTYPE annotation [<!ENTITY name "RBC">]>'
    path.write_text(entity + path.read_text().replace("<name>WBC<", "<name>&name;<"))
    assert "&name;" in path.read_text()
    assert kept.load(encoded()) is None


# ---------------------------------------------------------------- refused


def test_hostile_boxes_are_told_and_nothing_is_stored(kept: Corrections) -> None:
    edges: list[Any] = [-1, 61, None, "10", True, [], {}, float("nan"), float("inf"), 10**400]
    hostile: list[Any] = [None, "boxes", {"0": BOX}, [None], [[]], [{}], [BOX] * 501]
    hostile += [[BOX | {"x2": edge}] for edge in edges]
    classes: list[Any] = [None, "", "rbc", "<b>", ["RBC"], {}, 0]
    hostile += [[BOX | {"label": label}] for label in classes]
    hostile += [[BOX | {"difficult": flag}] for flag in (None, 1, "yes")]
    hostile += [[BOX | {"x2": 11}], [BOX | {"y2": 5}], [BOX | {"x1": 30, "x2": 10}]]
    for boxes in hostile:
        with pytest.raises(CorrectionError, match=r"^[^\n]{10,200}\.$"):
            kept.save(encoded(), boxes)
    assert files(kept) == []


def test_the_box_at_fault_is_named(kept: Corrections) -> None:
    with pytest.raises(CorrectionError, match="Box 2 is not inside the photo, which is 60 x 40"):
        kept.save(encoded(), [BOX, BOX | {"y2": 41}])


def test_a_photo_of_too_many_pixels_is_not_stored(kept: Corrections) -> None:
    with pytest.raises(CorrectionError, match=r"30000x30000 is 900\.0 megapixels, the limit is 64"):
        kept.save(huge_png(), [])
    assert files(kept) == []


def test_what_is_no_photo_is_not_stored(kept: Corrections) -> None:
    for photo in (b"", b"no photo", encoded("JPEG")[:200]):
        with pytest.raises(CorrectionError, match="cannot be decoded"):
            kept.save(photo, [])
    assert files(kept) == []


def test_the_folder_has_a_limit(tmp_path: Path) -> None:
    kept = Corrections(tmp_path, LABELS, limit=1)
    (tmp_path / "JPEGImages" / "other.bin").write_bytes(bytes(994_000))
    kept.save(encoded("JPEG"), [])
    with pytest.raises(CorrectionError, match="keeps 1 MB of corrections, and that is full"):
        kept.save(encoded("BMP"), [])
    kept.save(encoded("JPEG"), [BOX])  # replaced
    assert len(files(kept)) == 3


def failing_at(call: int, number: int) -> Callable[[int], None]:
    """An os.fsync whose call of that number, from 1, fails."""
    calls = iter(range(1, 100))

    def fsync(file: int) -> None:
        if next(calls) == call:
            raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("by", [OWNER, Person("visitor")], ids=["accepted", "proposed"])
@pytest.mark.parametrize(
    "call", [1, 2, 3, 4], ids=["image", "its folder", "annotation", "its folder, too"]
)
def test_a_full_disk_is_told_and_leaves_nothing_half(
    kept: Corrections, monkeypatch: pytest.MonkeyPatch, call: int, by: Person
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_at(call, errno.ENOSPC))
        with pytest.raises(CorrectionError, match="its disk is full"):
            kept.save(encoded(), [BOX], by)
    assert files(kept) == []


def test_a_full_disk_leaves_the_first_correction(
    kept: Corrections, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.save(encoded(), [BOX])
    before = files(kept)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_at(1, errno.EDQUOT))
        with pytest.raises(CorrectionError, match="its disk is full"):
            kept.save(encoded(), [])
    assert files(kept) == before
    assert read(kept)[0].labels == ("WBC",)


def test_a_file_that_is_written_in_part_only_is_none(kept: Corrections) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(CorrectionError, match="cannot write the file"):
            kept.save(encoded("BMP"), [BOX])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(kept) == []


def test_what_a_killed_program_left_does_not_disturb(kept: Corrections) -> None:
    kept.save(encoded(), [BOX])
    for part, name in (("JPEGImages", "a.png"), ("Annotations", "a.xml")):
        (folder_of(kept) / part / f".{name}.0.partial").write_bytes(b"half")
    assert len(read(kept)) == 1


def test_several_people_at_once(kept: Corrections) -> None:
    photos = [encoded(seed=seed) for seed in range(4)]
    counts = range(1, 5)

    def save(count: int) -> None:
        for photo in photos:
            kept.save(photo, [BOX] * count)

    threads = [threading.Thread(target=save, args=(count,)) for count in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    annotations = read(kept)
    assert len(annotations) == len(photos)
    assert {len(annotation.labels) for annotation in annotations} <= set(counts)


# ---------------------------------------------------------------- the folder and its classes


def test_the_served_classes_are_written_down(kept: Corrections) -> None:
    assert (folder_of(kept) / "labels.txt").read_text() == "RBC\nWBC\nPlatelets\n"
    assert Corrections(folder_of(kept)).labels == LABELS


def test_the_folders_own_classes_count(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("RBC\n\n  Malaria, ring stage \r\n")
    kept = Corrections(tmp_path, LABELS)
    assert kept.labels == ("RBC", "Malaria, ring stage")
    kept.save(encoded(), [BOX | {"label": "Malaria, ring stage"}])
    with pytest.raises(CorrectionError, match="choose one of the classes RBC, Malaria"):
        kept.save(encoded(), [BOX])


@pytest.mark.parametrize("text", ["", "\n", "a\na\n", "a  b\n", "\x1b[2J\n", "x" * 201, "\udcff"])
def test_classes_that_cannot_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text, errors="surrogateescape")
    with pytest.raises(CorrectionError, match=r"labels\.txt: "):
        Corrections(tmp_path, LABELS)


def test_nobody_says_what_the_classes_are(tmp_path: Path) -> None:
    with pytest.raises(CorrectionError, match="write the classes into it, one a line"):
        Corrections(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorrectionError, match="no corrections can be kept"):
        Corrections(tmp_path / "file" / "corrections", LABELS)


def test_markup_in_a_class_stays_text(tmp_path: Path) -> None:
    label = '</name><bndbox>&"<![CDATA['
    kept = Corrections(tmp_path, [label])
    kept.save(encoded(), [BOX | {"label": label}])
    (file,) = (tmp_path / "Annotations").glob("*.xml")
    assert ElementTree.parse(file).findtext("object/name") == label
    loaded = kept.load(encoded())
    assert loaded is not None
    assert loaded[0].label == label
