from pathlib import Path

import pytest

from client import Detection, DetectorError, InvalidImage, InvalidParameter, Result
from client.detect.journal import Journal
from client.detect.output import Output
from tests.conftest import SmallDisk

PHOTOS = [Path("b.jpg"), Path("a.jpg")]


def made(path: Path, result: Result, *, resume: bool = False) -> Path:
    """Make an output of two photos with the same result."""
    output = Output(path, None, None)
    with output.journal({}, resume=resume) as journal:
        for photo in reversed(PHOTOS):
            journal.found(photo, result)
        output.write(journal, PHOTOS)
    return path


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


@pytest.fixture
def result(cell: Detection) -> Result:
    return Result((cell,), 64, 48)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "found.csv"


def test_nothing_recorded_leaves_nothing_behind(path: Path) -> None:
    with pytest.raises(InvalidImage), Output(path, None, None).journal({}, resume=False):
        raise InvalidImage("the very first")
    assert list(path.parent.iterdir()) == []


def test_the_output_has_the_order_of_the_photos_and_stands_alone(
    path: Path, result: Result
) -> None:
    lines = made(path, result).read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["file", "b.jpg", "a.jpg"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("resume", [True, False])
def test_an_output_that_is_there_is_not_overwritten(
    path: Path, result: Result, resume: bool
) -> None:
    content = made(path, result).read_text()
    with pytest.raises(InvalidParameter, match=r"found\.csv exists already: name another --output"):
        made(path, Result((), 1, 1), resume=resume)
    assert path.read_text() == content


def test_a_journal_that_is_there_needs_resume(path: Path, result: Result) -> None:
    path.parent.mkdir()
    with Journal(journal_of(path), {}) as journal:
        journal.found(PHOTOS[0], result)
    with pytest.raises(InvalidParameter, match="has not ended: go on with --resume"):
        made(path, result)
    assert made(path, result, resume=True).exists()
    assert not journal_of(path).exists()


def test_a_journal_with_failures_stays_and_a_file_is_made_anew(path: Path, result: Result) -> None:
    output = Output(path, None, None)
    with output.journal({}, resume=False) as journal:
        journal.found(PHOTOS[0], result)
        journal.failed(PHOTOS[1], InvalidImage("no"))
        output.write(journal, PHOTOS)
    assert len(path.read_text().splitlines()) == 2
    assert journal_of(path).exists()
    assert len(made(path, result, resume=True).read_text().splitlines()) == 3
    assert not journal_of(path).exists()


def test_a_folder_is_never_replaced(tmp_path: Path, result: Result) -> None:
    """It may hold what somebody has corrected."""
    output = Output(tmp_path / "voc", "voc", None)
    with output.journal({}, resume=False) as journal:
        journal.failed(PHOTOS[0], InvalidImage("no"))
        output.write(journal, PHOTOS[:1])
    with (
        pytest.raises(InvalidParameter, match="voc exists already: move it away to make it anew"),
        output.journal({}, resume=True),
    ):
        pass


def test_what_a_kill_left_of_an_output_is_no_output(tmp_path: Path, photo: Path) -> None:
    output = Output(tmp_path / "voc", "voc", None)
    left = tmp_path / ".voc.partial" / "Annotations" / "old.xml"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    with output.journal({}, resume=True) as journal:
        journal.found(photo, Result((), 64, 48))
        output.write(journal, [photo])
    assert [path.name for path in (tmp_path / "voc/Annotations").iterdir()] == ["photo.xml"]
    assert not left.exists()
    assert set(output.made) == {tmp_path / "voc", tmp_path / ".voc.partial"}


@pytest.mark.parametrize("error", [InvalidImage("away"), KeyboardInterrupt(), OSError(28, "full")])
def test_what_ends_a_run_says_how_to_go_on(
    path: Path, result: Result, error: BaseException
) -> None:
    def end() -> None:
        with Output(path, None, None).journal({}, resume=False) as journal:
            journal.found(PHOTOS[0], result)
            raise error

    with pytest.raises((DetectorError, KeyboardInterrupt)) as raised:
        end()
    (note,) = raised.value.__notes__
    assert note.startswith(f"Photos done: 1, kept in {journal_of(path)}. The same command with --")


def test_a_full_disk_keeps_what_was_found(small_disk: SmallDisk, result: Result) -> None:
    """The journal stays, the output is not there, and --resume makes it."""
    path = small_disk.folder / "found.csv"
    output = Output(path, None, None)

    def end() -> None:
        with output.journal({}, resume=False) as journal:
            for photo in PHOTOS:
                journal.found(photo, Result(result.detections * 500, 64, 48))
            small_disk.fill()
            output.write(journal, PHOTOS)

    with pytest.raises(DetectorError, match="No space left on device") as raised:
        end()
    assert "Photos done: 2" in raised.value.__notes__[0]
    assert not path.exists()
    small_disk.free()
    with output.journal({}, resume=True) as journal:
        output.write(journal, PHOTOS)
    assert len(path.read_text().splitlines()) == 1001


def test_a_place_that_cannot_be_written_is_one_sentence(photo: Path, result: Result) -> None:
    with pytest.raises(DetectorError, match=r"photo\.jpg.*: (Not a directory|File exists)"):
        made(photo / "found.csv", result)


def test_ids_go_with_coco_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="--coco-ids is for --format coco"):
        Output(tmp_path / "found.csv", None, tmp_path / "truth.json")


def test_ids_choose_the_photos(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": []}'
    )
    output = Output(tmp_path / "found.json", None, tmp_path / "truth.json")
    assert output.wanted([]) == []
    assert output.wanted([*PHOTOS, *PHOTOS]) == [Path("a.jpg")]
    with pytest.raises(InvalidParameter, match=r"no image for b\.jpg or any other photo"):
        output.wanted(PHOTOS[:1])
