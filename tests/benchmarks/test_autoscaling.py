"""The simulated autoscaler decides as Kubernetes says that it does."""

import json
from pathlib import Path

import pytest

from benchmarks.autoscaling import (
    FIGURES,
    Autoscaler,
    Curve,
    Settings,
    ceil_beyond_tolerance,
    read_curve,
    serve,
    simulate,
    summarize,
)
from tests.conftest import PROJECT

VALUES = {"minReplicas": 2, "maxReplicas": 10, "underWay": 2, "queueMilliseconds": 50}
CURVE = Curve([50.0, 100.0, 200.0, 300.0], [0.01, 0.01, 0.01, 0.05])


@pytest.mark.parametrize(
    ("servers", "ratio", "wanted"),
    [(4, 1.0, 4), (4, 1.09, 4), (4, 0.9, 4), (4, 1.2, 5), (4, 0.4, 2)],
)
def test_the_documented_rule(servers: int, ratio: float, wanted: int) -> None:
    assert ceil_beyond_tolerance(servers, ratio) == wanted


def test_it_grows_as_fast_as_it_may_and_shrinks_after_ten_minutes() -> None:
    scaler = Autoscaler(VALUES, FIGURES["requests under way"])
    assert scaler.decide(2, 100.0, 0.0) == 6  # four more within a minute
    assert scaler.decide(6, 100.0, 0.0) == 6
    assert [scaler.decide(6, 2.0, 0.0) for _ in range(37)] == [6] * 37
    for _ in range(3):
        servers = scaler.decide(6, 2.0, 0.0)
    assert servers == 5


def test_the_larger_wish_counts() -> None:
    for figures, wanted in (
        ("requests under way", 2),
        ("queue time", 4),
        ("both, as the chart", 4),
    ):
        assert Autoscaler(VALUES, FIGURES[figures]).decide(2, 4.0, 0.1) == wanted


def test_what_is_more_than_servers_can_do_is_refused() -> None:
    assert serve(CURVE, 2, 400.0, 40.0).refused == 0
    full = serve(CURVE, 2, 700.0, 60.0)
    assert (full.answered, full.refused) == (600.0, 100.0)
    assert full.under_way == pytest.approx(60.0)  # all places are taken


def test_an_even_load_settles() -> None:
    scaler = Autoscaler(VALUES, FIGURES["both, as the chart"])
    moments, counts = simulate(CURVE, scaler, lambda now: 800.0, 200.0, 40.0)
    assert set(counts[500:]) == {4}  # 800 a second for 10 ms each: 8 under way, two in each
    assert summarize(moments, counts, CURVE)["most servers"] >= 4


def test_the_page_tells_what_was_found() -> None:
    curve = read_curve(Settings().curve)
    found = json.loads((PROJECT / "benchmarks" / "results" / "autoscaling.json").read_text())
    assert found["photos a second of a server"] == curve.capacity
    page = Path(PROJECT / "docs" / "kubernetes.md").read_text()
    for name in ("peak, queue time", "peak, both, as the chart", "jump, both, as the chart"):
        assert f"| {found[name]['changes']} | {found[name]['server-hours']:.1f}" in page
