"""The benchmark of bulk work, with times that are said instead of measured."""

from pathlib import Path

import pytest

from benchmarks import bulk


def test_the_pace_is_that_of_the_photos_beyond_the_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start takes 2 s, and 50 photos a second are done."""

    def time(command: bulk.Command, photos: Path) -> float:
        assert str(photos) in command(photos, Path("to"))
        return 2.0 + (len([*photos.iterdir()]) - 1) / 50

    monkeypatch.setattr(bulk, "_time", time)
    found = bulk.measure_pace(bulk.Settings(few=1, many=40, part=10, turns=2))
    assert set(found) == {"bulk", "client detect --output"}
    for figures in found.values():
        assert figures["start_seconds"]["median"] == 2.0
        assert figures["photos_a_second"]["median"] == pytest.approx(50)
        assert figures["photos_a_second"]["count"] == 2
