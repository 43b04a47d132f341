"""The arithmetic of the three commands, and their tables."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import open_loop, report, serving_memory, serving_speed, serving_steps
from benchmarks.contestants import Slice


def slice_of(throughput: float, seconds: float = 1.0, verdict: str = "OK") -> Slice:
    return Slice(
        throughput=throughput,
        latencies_ms=[10.0, 20.0],
        generator_cpu=0.1,
        seconds=seconds,
        server_cpu={"server": 1.0},
        total=100,
        verdicts={verdict: 100},
        all_ms=15.0,
        lateness_ms=[0.1],
    )


def test_a_slice_is_compared_with_its_neighbours_only() -> None:
    speeds = iter([100.0, 50.0, 10.0])  # of the reference, which slows down
    reference = iter(slice_of(speed) for speed in speeds)
    runs = [
        serving_speed.Run("a", lambda: slice_of(75.0)),
        serving_speed.Run("b", lambda: slice_of(15.0)),
    ]
    turns = serving_speed.in_turns(lambda: next(reference), runs, 1, limit=9.0, title="")
    assert [turn.ratio for turn in turns["a"]] == [1.0]
    assert [turn.ratio for turn in turns["b"]] == [0.5]


def test_slices_in_which_the_machine_stood_still_do_not_count() -> None:
    slices = iter([slice_of(10.0, seconds) for seconds in (1.0, 1.0, 99.0, 1.0)])
    runs = [serving_speed.Run("a", lambda: slice_of(10.0))]
    turns = serving_speed.in_turns(lambda: next(slices), runs, 3, limit=9.0, title="")
    assert len(turns["a"]) == 1


def test_summary() -> None:
    turn = serving_speed.Turn(slice_of(90.0), slice_of(100.0), slice_of(100.0))
    found = serving_speed.summary([turn, turn], cores=2)
    assert found["of_bare"]["median"] == 0.9
    assert found["of_bare_net"]["median"] == pytest.approx(0.9 * 2 / 1.9)
    assert found["cpu_ms"] == {"server": 10}
    assert found["generator_ms"] == 1
    assert found["verdicts"] == {"OK": 200}
    assert math.isnan(serving_speed.summary([], cores=2)["of_bare"]["median"])


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


def test_triton_counts_become_microseconds_a_request() -> None:
    before = {"ssd": dict.fromkeys(("requests", "executions", "total", *serving_steps.PARTS), 1.0)}
    after = {
        "ssd": {
            "requests": 11.0,
            "executions": 6.0,
            "total": 50_001.0,
            **dict.fromkeys(serving_steps.PARTS, 10_001.0),
        }
    }
    counts = serving_steps.difference(before, after)["ssd"]
    found = serving_steps.a_request([counts, counts])
    assert found["total"] == 5
    assert found["queue"] == 1
    assert found["batch"] == 2


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


def test_networks_of_a_repository(tmp_path: Path) -> None:
    for version, content in (("1", b"plain"), ("2", b"QuantizeLinear"), ("10", b"QuantizeLinear")):
        folder = tmp_path / "ssd" / version
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(content)
    found = serving_speed.networks(serving_speed.Settings(repository=tmp_path))
    assert {name: path.parent.name for name, path in found.items()} == {
        "float32": "1",
        "int8": "10",
    }
    only = serving_speed.Settings(repository=tmp_path, precisions=("int8",))
    assert list(serving_speed.networks(only)) == ["int8"]
    assert serving_steps.newest_network(tmp_path).parent.name == "10"


def test_an_empty_result_is_written(tmp_path: Path) -> None:
    machine = {"processor": "P", "cores": 2.0, "flags": [], "python": "3", "packages": {}}
    result: dict[str, Any] = {
        "machine": machine | {"commit": "c", "time": "t"},
        "photos": 4,
        "contestants": [],
        "head_to_head": [],
        "open_loop": [],
        "perf_analyzer": [],
        "failed": {"contestants Ray Serve": "no port\nand more"},
    }
    report.write(tmp_path, result)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert "failed: contestants Ray Serve: no port" in (tmp_path / "tables.md").read_text()
