"""The benchmark of bulk work, in short."""

import pytest

from benchmarks import bulk


@pytest.mark.slow
def test_each_command_has_its_pace() -> None:
    found = bulk.measure_pace(bulk.Settings(few=1, many=40, part=10, turns=1))

    assert set(found) == {"bulk", "client detect --output"}
    for figures in found.values():
        assert figures["start_seconds"]["median"] > 0
        assert figures["photos_a_second"]["count"] == 1
