"""`detect --inbox`: the least sure photos of a run are kept, and what keeps that from happening."""

import itertools
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.monitoring.watched import Store
from client import Box, Detection, InvalidParameter
from client.detect.command import run_detect
from client.detect.settings import Detect
from client.inbox.inbox import Inbox
from tests.client.conftest import Service, answer_tensors, save_photo


@pytest.fixture
def photos(service: Service, tmp_path: Path) -> Path:
    """Three, of each of which the service is surer than of the one before."""
    scores = itertools.count(6)

    def answer(*_: Any) -> Any:
        detection = Detection("RBC", 0, next(scores) / 10, Box(4, 6, 20, 30))
        return answer_tensors([detection], size=(48, 64))

    service.answer = answer
    for number in range(3):
        save_photo(tmp_path / "photos" / f"{number}.png", 48, 64 + number)
    return tmp_path / "photos"


def kept(inbox: Path) -> list[str]:
    return sorted(path.stem.partition("-")[2] for path in inbox.glob("proposals/Annotations/*"))


def test_the_least_sure_are_kept(service: Service, photos: Path, tmp_path: Path) -> None:
    settings = Detect(
        (photos,), service.url, concurrency=1, inbox=str(tmp_path / "inbox"), unsure=2
    )
    assert run_detect(settings) == 0
    assert kept(tmp_path / "inbox") == ["unsure000360", "unsure000640"]
    for path in (tmp_path / "inbox").glob("proposals/Annotations/*"):
        assert ElementTree.parse(path).findtext("source/version") == "ensemble"  # tells no steps


def test_without_an_inbox_nothing_is_kept(service: Service, photos: Path, tmp_path: Path) -> None:
    assert run_detect(Detect((photos,), service.url)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_inbox_that_cannot_be_written_is_told_before_a_photo_is_sent(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameter, match=r"--inbox .*file/inbox: no corrections can be kept"):
        run_detect(Detect((photos,), service.url, inbox=str(tmp_path / "file" / "inbox")))
    assert service.requests == []


def test_an_inbox_of_another_task_does_not_end_the_run(
    service: Service, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "labels.txt").write_text("cat\n")
    assert run_detect(Detect((photos,), service.url, inbox=str(tmp_path / "inbox"))) == 1
    printed = capsys.readouterr()
    assert printed.err.count("does not name RBC") == 1
    assert "3 photos: 3 detections" in printed.out
    assert kept(tmp_path / "inbox") == []


@pytest.mark.parametrize(
    ("photo", "options", "said"),
    [
        ("clip.mp4", {}, "--inbox is of photos"),
        ("photo.jpg", {"unsure": 0}, "--unsure 0: expected 1 or more"),
    ],
)
def test_options_that_make_no_sense(photo: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        run_detect(Detect((Path(photo),), inbox="inbox", **options))


def test_an_inbox_may_be_a_bucket(service: Service, photos: Path, s3: str) -> None:
    assert run_detect(Detect((photos,), service.url, concurrency=1, inbox=s3, unsure=2)) == 0
    names = Inbox(s3).samples()
    assert [name.partition("-")[2] for name in names] == ["unsure000360", "unsure000640"]


def test_a_bucket_that_goes_away_does_not_end_the_run(
    service: Service, photos: Path, moto_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, answer = Store(), service.answer

    def answer_and_go(*request: Any) -> Any:
        if len(service.requests) == 2:
            store.away()
        return answer(*request)

    service.answer = answer_and_go
    assert run_detect(Detect((photos,), service.url, concurrency=1, inbox=store.address)) == 1
    printed = capsys.readouterr()
    assert printed.err.count("cannot be reached") == 1
    assert "no more photos are kept, the results are not affected" in printed.err
    assert "3 photos: 3 detections" in printed.out
