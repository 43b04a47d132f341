"""The benchmark of measuring, in short."""

import pytest

from benchmarks import measuring


@pytest.mark.slow
def test_both_servers_take_turns() -> None:
    found = measuring.measure_cost(measuring.Settings(turns=2, seconds=0.3))

    assert len(found["ratios"]) == found["ratio"]["count"] == 2
    for name in ("measured", "unmeasured"):
        for figure in ("photos_a_second", "p50_ms", "p99_ms", "cpu_ms_a_photo"):
            assert found[name][figure]["median"] > 0


def test_what_counts_nothing_is_whole_but_for_that() -> None:
    with measuring.unmeasured_repository() as folder:
        for model in ("preprocess", "postprocess"):
            code = (folder / model / "1" / "metrics.py").read_text()
            there = (measuring.REPOSITORY / model / "1" / "metrics.py").read_text()
            assert code == there + measuring.NOTHING
