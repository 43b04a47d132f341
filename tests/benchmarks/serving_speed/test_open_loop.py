"""Where a curve saturates, and its points."""

from typing import Any

from benchmarks.serving_speed import open_loop
from tests.benchmarks.conftest import slice_of


def test_saturation_is_the_highest_rate_that_is_answered() -> None:
    points: list[dict[str, Any]] = [
        {"name": "a", "rate": 50.0, "sent": 51.0, "throughput": 50.0, "verdicts": {"OK": 9}},
        {"name": "a", "rate": 80.0, "sent": 82.0, "throughput": 79.0, "verdicts": {"OK": 9}},
        {
            "name": "a",
            "rate": 90.0,
            "sent": 90.0,
            "throughput": 89.0,
            "verdicts": {"OK": 9, "UNAVAILABLE": 1},
        },
        {"name": "a", "rate": 99.0, "sent": 99.0, "throughput": 82.0, "verdicts": {"OK": 9}},
    ]
    assert open_loop.saturation(points, "a") == 80
    assert open_loop.saturation(points, "b") == 0


def test_a_point_of_the_curve() -> None:
    found = open_loop.point([slice_of(10.0), slice_of(20.0, verdict="UNAVAILABLE")], rate=30.0)
    assert found["throughput"] == 15
    assert found["verdicts"] == {"OK": 100, "UNAVAILABLE": 100}
    assert found["latency_ms"]["p99"] == 20
