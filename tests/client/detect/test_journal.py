import json
from pathlib import Path

import pytest

from client import Detection, InvalidImage, InvalidParameter, Result
from client.detect.journal import Journal

SETTINGS = {"model": "ensemble", "score_threshold": None}
ODD = Path("caf\udce9\n.jpg")  # a name that is no UTF-8, with a line feed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "found.jsonl.journal"


@pytest.fixture
def result(cell: Detection) -> Result:
    return Result((cell,), 64, 48, "ensemble")


def fill(path: Path, result: Result) -> None:
    with Journal(path, SETTINGS) as journal:
        journal.found(Path("a.jpg"), result)
        journal.failed(ODD, InvalidImage("no image"))
        journal.found(Path("c.jpg"), result)


def test_an_empty_journal_leaves_no_file(path: Path) -> None:
    with Journal(path, SETTINGS) as journal:
        assert path.exists()
        assert len(journal) == 0
        assert list(journal.entries([])) == []
    assert not path.exists()


def test_entries_come_in_the_order_asked_for(path: Path, result: Result) -> None:
    fill(path, result)
    with Journal(path, SETTINGS) as journal:
        assert len(journal) == 3
        assert list(journal.entries([Path("c.jpg"), ODD, Path("a.jpg")])) == [
            {"file": "c.jpg", **result.to_dict()},
            {"file": str(ODD), "error": "no image"},
            {"file": "a.jpg", **result.to_dict()},
        ]


def test_what_failed_is_not_done_until_it_succeeds(path: Path, result: Result) -> None:
    fill(path, result)
    photos = [Path("a.jpg"), ODD, Path("missing.jpg")]
    with Journal(path, SETTINGS) as journal:
        assert [journal.done(photo) for photo in photos] == [True, False, False]
        journal.found(ODD, result)
    with Journal(path, SETTINGS) as journal:
        assert [journal.done(photo) for photo in photos] == [True, True, False]
        assert [entry["width"] for entry in journal.entries([ODD])] == [64]


def test_whatever_a_kill_leaves_of_the_last_line_is_dropped(path: Path, result: Result) -> None:
    fill(path, result)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        with Journal(path, SETTINGS) as journal:
            assert not journal.done(Path("c.jpg"))
            assert journal.done(Path("a.jpg"))
            journal.found(Path("c.jpg"), result)
        assert path.read_bytes() == whole


def test_other_settings_are_refused(path: Path, result: Result) -> None:
    fill(path, result)
    with pytest.raises(
        InvalidParameter, match=r"begun with score_threshold None, which now is 0\.3"
    ):
        Journal(path, {"model": "ensemble", "score_threshold": 0.3})
    with Journal(path, {**SETTINGS, "new": None}) as journal:  # as a later version may have it
        assert len(journal) == 3


@pytest.mark.parametrize(
    "content",
    [b"my diary", b"my diary\n", b"[]\n", b'{"settings": 3}\n', b'{"settings": {"model": "ense'],
)
def test_another_file_is_refused_and_stays_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidParameter, match="not the journal of a run"):
        Journal(path, SETTINGS)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"\0\0\0\n", b'{"width": 3}\n', b"[]\n", b'{"file": []}\n'])
def test_a_damaged_journal_is_told_with_the_place(path: Path, result: Result, line: bytes) -> None:
    fill(path, result)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + line + json.dumps({"file": "d.jpg"}).encode() + b"\n")
    with pytest.raises(InvalidParameter, match=f"damaged at byte {size}"):
        Journal(path, SETTINGS)


def test_two_runs_do_not_write_one_journal(path: Path) -> None:
    with Journal(path, SETTINGS), pytest.raises(InvalidParameter, match="another run is writing"):
        Journal(path, SETTINGS)


def test_a_removed_journal_is_gone(path: Path, result: Result) -> None:
    fill(path, result)
    with Journal(path, SETTINGS) as journal:
        journal.remove()
    assert not path.exists()
