"""What the page keeps, and what makes way."""

import os
from pathlib import Path

import pytest

from demo import pictures, uploads
from demo.uploads import MEGABYTE, SMALLEST, NoRoom, make_way
from tests.demo.program import SAMPLES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(uploads, "limit", 3 * MEGABYTE)
    return tmp_path


def kept(folder: Path, name: str, size: int, touched: float | None = None) -> Path:
    path = folder / name / "photo.jpg"
    path.parent.mkdir()
    path.write_bytes(b"\0" * size)
    if touched is not None:
        for part in (path, path.parent):
            os.utime(part, (touched, touched))
    return path


def test_an_empty_folder_has_room_for_all_but_one_byte_too_many(folder: Path) -> None:
    make_way(0)
    make_way(3 * MEGABYTE)
    with pytest.raises(NoRoom, match="keeps 3 MB"):
        make_way(3 * MEGABYTE + 1)
    folder.rmdir()
    make_way(1)


def test_the_oldest_makes_way_and_no_more_than_need_be(folder: Path) -> None:
    paths = [kept(folder, str(age), MEGABYTE, 1e9 - age) for age in (1, 3, 2)]
    make_way(MEGABYTE // 2)
    assert [path.exists() for path in paths] == [True, False, True]


def test_what_is_in_use_makes_no_way(folder: Path) -> None:
    path = kept(folder, "used", 2 * MEGABYTE, 1e9)
    old = kept(folder, "old", MEGABYTE, 1e9)
    pictures.read_photo(str(path))
    with pytest.raises(NoRoom):
        make_way(2 * MEGABYTE)
    assert old.exists()  # in vain it would have gone
    make_way(MEGABYTE)
    assert path.exists()
    assert not old.exists()


def test_half_uploads_count_and_go(folder: Path) -> None:
    half = folder / "tmp1234"
    half.write_bytes(b"\0" * 2 * MEGABYTE)
    with pytest.raises(NoRoom):
        make_way(2 * MEGABYTE)
    os.utime(half, (1e9, 1e9))
    make_way(2 * MEGABYTE)
    assert not half.exists()


def test_many_small_files_count_as_well(folder: Path) -> None:
    for number in range(3 * MEGABYTE // SMALLEST):
        kept(folder, str(number), 0)
    with pytest.raises(NoRoom):
        make_way(1)


def test_what_is_made_of_a_photo_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "limit", 50_000)
    photo = SAMPLES[0].read_bytes()
    with pytest.raises(NoRoom):
        pictures.copies(str(SAMPLES[0]), photo)
    with pytest.raises(NoRoom):
        pictures.drawn(str(SAMPLES[0]), [])


def test_a_sample_is_left_as_it_is(folder: Path) -> None:
    before = SAMPLES[0].stat()
    pictures.read_photo(str(SAMPLES[0]))
    assert SAMPLES[0].stat().st_mtime_ns == before.st_mtime_ns
