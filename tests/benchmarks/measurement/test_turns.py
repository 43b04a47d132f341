"""Slices beside their neighbours, and what they say together."""

import math

import pytest

from benchmarks.measurement.turns import Run, Turn, in_turns, summary
from tests.benchmarks.conftest import slice_of


def test_a_slice_is_compared_with_its_neighbours_only() -> None:
    speeds = iter([100.0, 50.0, 10.0])  # of the reference, which slows down
    reference = iter(slice_of(speed) for speed in speeds)
    runs = [
        Run("a", lambda: slice_of(75.0)),
        Run("b", lambda: slice_of(15.0)),
    ]
    turns = in_turns(lambda: next(reference), runs, 1, limit=9.0, title="")
    assert [turn.ratio for turn in turns["a"]] == [1.0]
    assert [turn.ratio for turn in turns["b"]] == [0.5]


def test_slices_in_which_the_machine_stood_still_do_not_count() -> None:
    slices = iter([slice_of(10.0, seconds) for seconds in (1.0, 1.0, 99.0, 1.0)])
    runs = [Run("a", lambda: slice_of(10.0))]
    turns = in_turns(lambda: next(slices), runs, 3, limit=9.0, title="")
    assert len(turns["a"]) == 1


def test_summary() -> None:
    turn = Turn(slice_of(90.0), slice_of(100.0), slice_of(100.0))
    found = summary([turn, turn], cores=2)
    assert found["of_bare"]["median"] == 0.9
    assert found["of_bare_net"]["median"] == pytest.approx(0.9 * 2 / 1.9)
    assert found["cpu_ms"] == {"server": 10}
    assert found["generator_ms"] == 1
    assert found["verdicts"] == {"OK": 200}
    assert math.isnan(summary([], cores=2)["of_bare"]["median"])
