from pathlib import Path

import pytest

from client import Detection, DetectorError
from client.detect.formats.dataset import (
    add_photo,
    labels_of,
    names_of,
    usable,
)
from client.detect.journal import Entry
from tests.client.detect.formats.conftest import FOUND, entry


def names(*paths: str) -> list[str]:
    return list(names_of(entry(Path(path)) for path in paths).values())


def test_nothing_has_no_names_and_no_labels() -> None:
    assert names() == []
    assert labels_of([]) == {}


def test_failed_photos_are_not_usable(entries: list[Entry]) -> None:
    assert list(usable(entries)) == entries[:3]
    assert list(names_of(entries)) == [entry["file"] for entry in entries[:3]]


def test_names_begin_where_the_photos_part() -> None:
    assert names("in/a.jpg") == ["a.jpg"]
    assert names("in/a.jpg", "in/b.jpg") == ["a.jpg", "b.jpg"]
    assert names("in/x/a.jpg", "in/y/a.jpg", "in/a.jpg") == ["x-a.jpg", "y-a.jpg", "a.jpg"]


def test_no_two_names_share_a_stem() -> None:
    found = names("x/a.jpg", "x-a.jpg", "x/A.png", "x/a-2.jpg", "x/a")
    assert found == ["x-a.jpg", "x-a-2.jpg", "x-A-3.png", "x-a-2-2.jpg", "x-a-4"]


def test_names_can_be_printed_and_are_no_longer_than_a_file_system_takes() -> None:
    assert names("caf\udce9.jpg", "a\n\\b.jpg") == ["caf_.jpg", "a__b.jpg"]
    (long,) = {len(name) for name in names(f"{'ä' * 120}.jpg", f"{'ö' * 120}.jpg")}
    assert long == 102  # two bytes each
    first, second = names(f"x/{'a' * 240}.jpg", f"y/{'a' * 240}.jpg")
    assert (len(first), len(second)) == (200, 202)


def test_labels_go_by_their_class() -> None:
    assert labels_of([entry(Path("a.jpg"), *FOUND)]) == {0: "RBC", 2: "Platelets"}


def test_two_models_are_told_apart() -> None:
    other = Detection("car", 0, 0.5, FOUND[0].box)
    with pytest.raises(DetectorError, match=r"b\.jpg: class 0 is car, but RBC .* two models"):
        labels_of([entry(Path("a.jpg"), FOUND[0]), entry(Path("b.jpg"), other)])


def test_a_photo_takes_no_second_place_on_the_disk(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(photos[0])
    for number, source in enumerate([photos[0], tmp_path / "link.jpg"]):
        target = tmp_path / f"{number}.jpg"
        add_photo(str(source), target)
        assert target.samefile(photos[0])
        assert not target.is_symlink()


def test_a_photo_of_another_file_system_is_copied(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    add_photo(str(photos[0]), tmp_path / "copy.jpg")
    assert (tmp_path / "copy.jpg").read_bytes() == photos[0].read_bytes()
    assert not (tmp_path / "copy.jpg").samefile(photos[0])
