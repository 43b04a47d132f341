"""Triton's counts."""

from benchmarks.measurement.triton_statistics import PARTS, a_request, difference


def test_triton_counts_become_microseconds_a_request() -> None:
    before = {"ssd": dict.fromkeys(("requests", "executions", "total", *PARTS), 1.0)}
    after = {
        "ssd": {
            "requests": 11.0,
            "executions": 6.0,
            "total": 50_001.0,
            **dict.fromkeys(PARTS, 10_001.0),
        }
    }
    counts = difference(before, after)["ssd"]
    found = a_request([counts, counts])
    assert found["total"] == 5
    assert found["queue"] == 1
    assert found["batch"] == 2
