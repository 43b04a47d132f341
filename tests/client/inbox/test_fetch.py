"""What counts in an inbox, copied to a folder that `training` reads: once each, and all of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from client import InvalidParameter
from client.__main__ import main
from client.errors import DetectorError
from client.inbox.address import open_storage
from client.inbox.fetch import Fetch, run_fetch
from client.inbox.files import place_file
from client.inbox.inbox import Inbox
from client.inbox.photo import Photo
from client.inbox.voc_xml import bndbox, voc_xml
from tests.client.inbox.test_samples import HEIGHT, WIDTH, photo
from training.data.layouts import open_folder

BOX: dict[str, Any] = {"name": "RBC", "bndbox": bndbox(2, 3, 20, 30)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "here"


@pytest.fixture(params=["folder", "bucket"])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Inbox:
    is_bucket = request.param == "bucket"
    return Inbox(request.getfixturevalue("s3") if is_bucket else tmp_path / "inbox")


def accept(inbox: Inbox, name: str, *boxes: dict[str, Any]) -> None:
    xml = voc_xml(f"{name}.png", WIDTH, HEIGHT, boxes)
    inbox.accepted.store(name, Photo(".png", photo(ord(name))), xml)


def fetch(inbox: Inbox, target: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    assert main(["fetch", inbox.address, str(target), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_what_is_accepted_is_copied_and_training_reads_it(
    inbox: Inbox, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(inbox, "a", BOX)
    accept(inbox, "b")
    inbox.propose("c-1", Photo(".png", photo(3)), b"<annotation/>")
    assert fetch(inbox, target, capsys) == {"annotations": 2, "copied": 4, "removed": 0}
    folder = open_folder(target)
    dataset = folder.read("all", ("RBC",))
    assert [*dataset.problems, *folder.strays()] == []
    assert [len(each.labels) for each in dataset.annotations] == [1, 0]
    assert dataset.annotations[0].image_path.read_bytes() == photo(ord("a"))


def test_only_what_is_new_or_changed_is_copied_again_and_what_is_gone_is_removed(
    inbox: Inbox, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(inbox, "a", BOX)
    accept(inbox, "b", BOX)
    assert fetch(inbox, target, capsys)["copied"] == 4
    assert fetch(inbox, target, capsys) == {"annotations": 2, "copied": 0, "removed": 0}
    accept(inbox, "a", BOX, BOX)
    accept(inbox, "c")
    inbox.accepted.remove("b")
    (target / "JPEGImages" / "own.png").touch()  # is nobody's to remove
    assert fetch(inbox, target, capsys) == {"annotations": 2, "copied": 3, "removed": 2}
    found = sorted(path.name for path in target.glob("*/*"))
    assert found == ["a.png", "a.xml", "c.png", "c.xml", "own.png"]
    assert (target / "Annotations" / "a.xml").read_text().count("<object>") == 2


def test_an_inbox_in_which_nothing_counts_yet_is_an_empty_folder(
    inbox: Inbox, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox.propose("c-1", Photo(".png", photo(3)), b"<annotation/>")
    assert fetch(inbox, target, capsys) == {"annotations": 0, "copied": 0, "removed": 0}
    assert list(target.glob("*/*")) == []


def test_what_broke_off_is_gone_on_with(
    s3: str, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox = Inbox(s3)
    for name in "ab":
        accept(inbox, name)
    with monkeypatch.context() as patch:
        patch.setattr("client.inbox.files.place_file", full_disk)
        with pytest.raises(DetectorError, match=r"cannot be copied: .*No space left"):
            run_fetch(Fetch(s3, target))
    assert fetch(inbox, target, capsys) == {"annotations": 2, "copied": 4, "removed": 0}


def full_disk(path: Path, content: bytes) -> None:
    """Has room for all but one file."""
    if path.name == "b.png":
        raise OSError(28, "No space left on device")
    place_file(path, content)


def test_what_cannot_be_copied_is_a_sentence(s3: str, tmp_path: Path, target: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"expected an inbox, as `python app.py --correct"):
        run_fetch(Fetch(s3, target))
    assert not target.exists()
    open_storage(s3).place(Inbox(s3).accepted.annotation("a"), b"<annotation/>")
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InvalidParameter, match=r"expected no such folder, .*`fetch` has made"):
        run_fetch(Fetch(s3, tmp_path))
    with pytest.raises(DetectorError, match="has no bucket nobody"):
        run_fetch(Fetch(f"{s3.rsplit('/', 2)[0]}/nobody/inbox", target))
