from collections.abc import Iterator

import pytest

from bulk.errors import UsageError
from bulk.listing import Listing, Part, is_photo, write_listing
from bulk.place import Entry

SETTINGS = {"photos": "/photos", "part": 2}


def entries(*names: str, stamp: str = "1") -> list[Entry]:
    return [Entry(name, 5, stamp) for name in names]


def listing(*names: str) -> Listing:
    return Listing(write_listing(entries(*names), SETTINGS, 2), "found")


def test_no_photos() -> None:
    empty = listing()
    assert (len(empty), empty.parts, list(empty.iterate_parts())) == (0, 0, [])
    assert empty.compare([]) == (0, 0, 0)
    assert empty.compare(entries("a.jpg")) == (1, 0, 0)


def test_parts_are_of_a_size_and_in_order() -> None:
    three = listing("c.jpg", "a.jpg", "b/ü.jpg")
    assert len(three) == 3
    assert list(three.iterate_parts()) == [Part(0, ["c.jpg", "a.jpg"]), Part(1, ["b/ü.jpg"])]
    assert [part.name for part in three.iterate_parts()] == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]


def test_photos_are_listed_without_being_held() -> None:
    taken = []

    def produce() -> Iterator[Entry]:
        for number in range(1000):
            taken.append(number)
            yield Entry(f"{number}.jpg", number, "")

    assert len(Listing(write_listing(produce(), SETTINGS, 100), "found")) == 1000
    assert taken == list(range(1000))


def test_a_run_goes_on_with_its_settings_only() -> None:
    there = listing("a.jpg")
    there.check_settings(SETTINGS)
    with pytest.raises(UsageError, match="found was begun with part 2, which now is 3"):
        there.check_settings(SETTINGS | {"part": 3})


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 10])
def test_another_file_is_no_listing(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"found/_listing\.parquet is not the listing of a run"):
        Listing(data, "found")


def test_what_has_changed_since_is_counted() -> None:
    before = listing("a.jpg", "b.jpg", "c.jpg")
    assert before.compare(entries("c.jpg", "b.jpg", "a.jpg")) == (0, 0, 0)
    now = [*entries("a.jpg", "new.jpg", "newer.jpg"), *entries("b.jpg", stamp="2")]
    assert before.compare(now) == (2, 1, 1)


def test_a_name_that_is_no_text_is_told() -> None:
    with pytest.raises(UsageError, match=r"caf\\udce9\.jpg.*rename it"):
        write_listing(entries("caf\udce9.jpg"), SETTINGS, 2)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("a.jpg", True), ("a/b.JPEG", True), ("a.txt", False), ("jpg", False), ("a.jpg/b", False)],
)
def test_a_photo_is_known_by_its_name(name: str, answer: bool) -> None:
    assert is_photo(Entry(name, 1, "")) is answer
