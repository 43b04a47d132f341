"""Growth of memory."""

import pytest

from benchmarks import serving_memory


def test_growth_is_counted_from_the_warm_up() -> None:
    sizes = [100.0, 150.0, 200.0, 200.0, 200.0, 202.0, 202.0, 202.0]
    samples = [
        {
            "requests": 1000 * place,
            "mib": serving_memory.with_total({"a": {"pss": s, "rss": 2 * s}}),
        }
        for place, s in enumerate(sizes)
    ]
    found = serving_memory.growth(samples, warm_up=2000)
    assert found["a"]["pss_growth_percent"] == pytest.approx(1.0)
    assert found[serving_memory.TOTAL]["rss_after"] == 404
