"""Percentiles, ratios, spreads."""

import math

import pytest

from benchmarks.measurement import figures


def test_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(figures.percentile([], 0.99))


def test_percentile_is_a_value_that_occurred() -> None:
    assert figures.percentile([7.0], 0.99) == 7
    assert figures.percentile([3.0, 1.0, 2.0], 0.5) == 2
    hundred = [float(value) for value in range(1, 101)]
    assert figures.percentile(hundred, 0.99) == 99
    assert figures.percentile(hundred, 1.0) == 100
    assert figures.percentile(hundred, 0.0) == 1


def test_spread() -> None:
    assert figures.spread([])["count"] == 0
    assert figures.spread([2.0]) == {"median": 2, "q1": 2, "q3": 2, "count": 1}
    found = figures.spread([1.0, 2.0, 3.0, 4.0, 5.0, math.nan])
    assert found == {"median": 3, "q1": 2, "q3": 4, "count": 5}


def test_an_even_drift_cancels_out() -> None:
    speed = [100.0, 90.0, 80.0]  # the machine slows down while a contestant at half speed runs
    assert figures.ratio(speed[1] / 2, speed[0], speed[2]) == pytest.approx(0.5)


def test_net_takes_the_generator_out() -> None:
    assert figures.net(80.0, generator_cpu=0.0, seconds=1.0, cores=2) == 80
    assert figures.net(80.0, generator_cpu=0.4, seconds=1.0, cores=2) == pytest.approx(100)


def test_latency() -> None:
    assert figures.latency([])["count"] == 0
    found = figures.latency([1.0, 2.0, 9.0])
    assert (found["mean"], found["p50"], found["p99"]) == (4, 2, 9)
