import os
import shutil
from pathlib import Path

import pytest

from bulk.place import Place, open_place
from bulk.rows import make_row, write_rows
from client.errors import InvalidImage
from serving.errors import StoreError
from tests.bulk.conftest import read_paths


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place that holds nothing."""
    if request.param == "folder":
        return open_place(str(tmp_path / "there" / "found"))
    return open_place(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_nothing(place: Place) -> None:
    assert place.find("part-000000.parquet") is None
    with pytest.raises(InvalidImage, match=r"a\.jpg: no such (file|object)"):
        place.read_photo("a.jpg")


def test_a_file_is_created_once(place: Place) -> None:
    place.create("part", b"first")
    place.create("part", b"second")
    assert place.find("part") == place.read_photo("part") == b"first"
    assert [(each.path, each.size) for each in place.entries()] == [("part", 5)]


def test_files_of_subfolders_are_listed(place: Place, photos: Path) -> None:
    names = ["a.jpg", "more/b.JPG", "more/c.jpg", "notes.txt"]
    if os.path.isabs(place.address):  # noqa: PTH117 (an address is no path)
        shutil.copytree(photos, place.address)
    else:
        for name in names:
            place.create(name, (photos / name).read_bytes())
    assert sorted(each.path for each in place.entries()) == names
    first, again = list(place.entries()), list(place.entries())
    assert first == again
    assert all(each.stamp for each in first)


def test_a_file_is_created_where_the_file_system_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    open_place(str(tmp_path)).create("part", b"all")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"part": b"all"}


def test_what_ends_in_the_middle_leaves_nothing_that_is_taken_for_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows([make_row("a.jpg", None, "unreadable", None)], "digest")
    place = open_place(str(tmp_path))
    place.create("part-000000.parquet", data)

    def end(_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "fsync", end)
    with pytest.raises(SystemExit):
        place.create("part-000001.parquet", data)
    assert len(list(tmp_path.iterdir())) == 2
    assert place.find("part-000001.parquet") is None
    assert read_paths(tmp_path) == ["a.jpg"]


def test_a_folder_that_is_not_there_or_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere: No such file or directory"):
        list(open_place(str(tmp_path / "nowhere")).entries())
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file: .*(exists|[Nn]ot a directory)"):
        open_place(str(tmp_path / "file")).create("part", b"")


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(StoreError, match="ftp://photos is no address of a folder or bucket"):
        open_place("ftp://photos")


def test_a_bucket_that_is_not_there_is_told(s3: str) -> None:
    with pytest.raises(StoreError, match="has no bucket nobody: make it"):
        list(
            open_place(s3.replace("bucket-", "nobody/")[: s3.index("bucket-")] + "nobody").entries()
        )
