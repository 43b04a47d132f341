from pathlib import Path

import pytest

from serving.errors import PrerequisiteError
from serving.fleet.followed import FollowedFiles, read_text, read_words


def test_words_come_with_their_place_and_without_comments(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("# all\n\na b#c  # rest\n")
    assert read_words(file) == [(f"{file}, line 3", ["a", "b#c"])]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(PrerequisiteError, match="cannot be read: it is no text"):
        read_text(tmp_path / "photo.jpg")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "number.txt"
    path.write_text("1")
    return path


@pytest.fixture
def taken() -> list[int]:
    return []


@pytest.fixture
def followed(file: Path, taken: list[int]) -> FollowedFiles:
    def read() -> int:
        text = read_text(file)
        if not text.isdecimal():
            raise PrerequisiteError("expected a number")
        return int(text)

    files = FollowedFiles([file], read, taken.append)
    files.begin()
    return files


def test_what_stays_is_not_taken_again(followed: FollowedFiles, taken: list[int]) -> None:
    assert [followed.look(), followed.look()] == ["", ""]
    assert taken == [1]


def test_a_change_is_taken_once_it_rests(
    followed: FollowedFiles, file: Path, taken: list[int]
) -> None:
    file.write_text("2")
    assert followed.look() == ""
    file.write_text("23")  # it was half written
    assert followed.look() == ""
    assert followed.look() == f"{file} changed, and is taken"
    assert followed.look() == ""
    assert taken == [1, 23]


def test_what_makes_no_sense_is_told_once_and_changes_nothing(
    followed: FollowedFiles, file: Path, taken: list[int]
) -> None:
    file.write_text("two")
    told = [followed.look() for _ in range(4)]
    assert told == ["", "expected a number; what held before still holds", "", ""]
    file.unlink()
    told = [followed.look() for _ in range(4)]
    assert told[1].endswith(
        "cannot be read: No such file or directory; what held before still holds"
    )
    assert [told[0], *told[2:]] == [""] * 3
    assert taken == [1]
