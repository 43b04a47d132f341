"""Which photos are kept because the model is unsure of them, and what gives way to them."""

import os
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from client import Box, Detection, InvalidImage, Result
from client.inbox.inbox import Inbox, InboxError, InboxFullError
from client.inbox.photo import image_id
from client.inbox.samples import LABELS, Samples, measure_uncertainty
from tests.conftest import SmallDisk

WIDTH, HEIGHT = 64, 48
VERSION = "ensemble: preprocess 1, ssd 3, postprocess 1"


def photo(seed: int, side: int = 1) -> bytes:
    """A PNG of noise, 9 KB times the square of the side."""
    size = (side * HEIGHT, side * WIDTH, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def found(*scores: float, label: str = "RBC") -> Result:
    detections = (Detection(label, 0, score, Box(4, 6, 20, 30)) for score in scores)
    return Result(tuple(detections), WIDTH, HEIGHT)


@pytest.fixture
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Inbox:
    if getattr(request, "param", "folder") == "bucket":
        return Inbox(request.getfixturevalue("s3"), limit=1)
    return Inbox(tmp_path / "inbox", limit=1)


IN_BOTH = pytest.mark.parametrize("inbox", ["folder", "bucket"], indirect=True)


def folder_of(inbox: Inbox) -> Path:
    return Path(inbox.address)


def waiting(inbox: Inbox) -> list[str]:
    """The ids of what waits, the surest first."""
    return [name.partition("-")[0] for name in inbox.samples()]


@pytest.mark.parametrize(
    ("scores", "uncertainty"),
    [((), 0), ((1.0,), 0),
     ((0.0,), 0), ((0.5,), 1), ((0.9,), 0.04), ((0.1,), 0.04), ((0.8, 0.7), 0.52)],
)  # fmt: skip
def test_the_doubts_of_all_detections_add_up(scores: tuple[float, ...], uncertainty: float) -> None:
    assert measure_uncertainty(found(*scores)) == pytest.approx(uncertainty)


def test_nothing_found_is_never_kept(inbox: Inbox) -> None:
    assert not Samples(inbox, 5).offer(photo(0), found(), str)
    assert waiting(inbox) == []


def test_a_photo_waits_with_the_boxes_that_were_found(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(photo(0))
    assert Samples(inbox, 5).offer(tmp_path / "photo", found(0.9, 0.4), lambda: VERSION)
    (path,) = (folder_of(inbox) / "proposals" / "JPEGImages").iterdir()
    assert path.read_bytes() == photo(0)
    assert path.name == f"{image_id(photo(0))}-unsure000680.png"
    root = ElementTree.parse(folder_of(inbox) / inbox.proposals.annotation(path.stem)).getroot()
    assert root.findtext("filename") == path.name
    source = {each.tag: each.text for each in root.iterfind("source/*")}
    assert source["version"] == VERSION
    assert (source["author"], source["uncertainty"]) == ("service", "0.6800")
    assert [each.text for each in root.iterfind("object/confidence")] == ["0.9000"]
    assert [each.text for each in root.iterfind("object/bndbox/*")] == ["5", "7", "20", "30"]


@IN_BOTH
def test_the_surest_gives_way_to_one_that_is_less_sure(inbox: Inbox) -> None:
    samples = Samples(inbox, 2)
    offered = [samples.offer(photo(seed), found(score), str) for seed, score in enumerate(
        [0.9, 0.6, 0.95, 0.8, 0.5])]  # fmt: skip
    assert offered == [True, True, False, True, True]
    assert waiting(inbox) == [image_id(photo(1)), image_id(photo(4))]
    assert len(inbox.storage.entries(inbox.proposals.images)) == 2


@IN_BOTH
def test_the_same_photo_is_kept_once(inbox: Inbox) -> None:
    samples = Samples(inbox, 5)
    assert samples.offer(photo(0), found(0.6), str)
    assert not samples.offer(photo(0), found(0.5), str)
    inbox.proposals.remove(inbox.samples()[0])
    inbox.retire(f"{image_id(photo(0))}-abc", "refused", b"<annotation/>")
    assert not samples.offer(photo(0), found(0.5), str)


@IN_BOTH
def test_of_what_has_no_room_the_surest_gives_way(inbox: Inbox) -> None:
    samples = Samples(inbox, 99)
    for seed in range(5):
        assert samples.offer(photo(seed, side=5), found(0.9 - seed / 20), str)  # 230 KB each
    assert waiting(inbox) == [image_id(photo(seed, side=5)) for seed in (1, 2, 3, 4)]


@IN_BOTH
def test_what_people_made_gives_way_to_nothing(inbox: Inbox) -> None:
    big = inbox.accepted.annotation("big")
    inbox.storage.place(big, bytes(999_000))
    with pytest.raises(InboxFullError, match="the 1 MB that it may have are full"):
        Samples(inbox, 5).offer(photo(0), found(0.5), str)
    assert len(inbox.storage.find(big) or b"") == 999_000
    assert waiting(inbox) == []


@IN_BOTH
def test_an_inbox_of_another_task_is_told(inbox: Inbox) -> None:
    inbox.storage.place(LABELS, b"WBC\nRBC\n")
    assert Samples(inbox, 5).offer(photo(0), found(0.5), str)
    with pytest.raises(InboxError, match="does not name cat, which the model answered"):
        Samples(inbox, 5).offer(photo(1), found(0.5, label="cat"), str)
    inbox.storage.place(LABELS, b"\xff")
    with pytest.raises(InboxError, match=r"labels\.txt"):
        Samples(inbox, 5).offer(photo(1), found(0.5), str)
    assert waiting(inbox) == [image_id(photo(0))]


def test_what_is_no_photo_is_not_kept(inbox: Inbox, tmp_path: Path) -> None:
    for image in (b"no photo", tmp_path / "gone.jpg"):
        with pytest.raises(InvalidImage):
            Samples(inbox, 5).offer(image, found(0.5), str)
    assert waiting(inbox) == []


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half(small_disk: SmallDisk) -> None:
    inbox = Inbox(small_disk.folder / "inbox")
    assert Samples(inbox, 5).offer(photo(0), found(0.6), str)
    before = small_disk.contents()
    small_disk.fill()
    with pytest.raises(InboxError, match=r"no photo can be kept: .*No space left"):
        Samples(inbox, 5).offer(photo(1, side=5), found(0.5), str)
    assert small_disk.contents() == before


def test_what_a_killed_program_left_is_swept_away(inbox: Inbox) -> None:
    alone = folder_of(inbox) / "proposals" / "JPEGImages" / f"{image_id(photo(0))}-abcdef.png"
    half = folder_of(inbox) / "Annotations" / ".a.xml.0.partial"
    own = folder_of(inbox) / "JPEGImages" / "holiday.jpg"  # somebody's, not annotated yet
    fresh = folder_of(inbox) / "proposals" / "JPEGImages" / f"{image_id(photo(1))}-abcdef.png"
    for path in (alone, half, own):
        path.touch()
        os.utime(path, (0, 0))
    fresh.touch()
    Inbox(folder_of(inbox))
    assert [path.exists() for path in (alone, half, own, fresh)] == [False, False, True, True]
