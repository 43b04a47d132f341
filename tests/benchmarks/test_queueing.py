"""The simulated queue waits as theory says, and the page tells what was found."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks import queueing
from benchmarks.load.loops import arrivals
from benchmarks.queueing import (
    FULL,
    Server,
    Settings,
    compare_curves,
    plan_servers,
    predict_latency,
    read_server,
    simulate_servers,
    write_tables,
)
from tests.conftest import PROJECT

EXPONENTIAL = (-np.log(1 - (np.arange(4000) + 0.5) / 4000)).tolist()  # ms, 1 on average
CONSTANT = [1.0]


def read_result(name: str) -> Any:
    """The figures of a benchmark."""
    return json.loads((PROJECT / "benchmarks" / "results" / f"{name}.json").read_text())


def mean_wait(cores: int, busy: float, times_ms: Sequence[float]) -> float:
    """Milliseconds that a photo waits in a server that takes 1 ms for each, on average."""
    server = Server(cores, 1000.0 * cores / float(np.mean(times_ms)), times_ms)
    rate = busy * 1000 * cores
    found = predict_latency(server, rate, 100_000 / rate, 1, math.inf)
    return found["mean"] - float(np.mean(times_ms))


def erlang_c(cores: int, busy: float) -> float:
    """The share of photos that wait (Erlang 1917); cores * busy of them come in a photo's time."""
    load = cores * busy
    all_busy = load**cores / math.factorial(cores) / (1 - busy)
    return all_busy / (sum(load**k / math.factorial(k) for k in range(cores)) + all_busy)


def test_nothing_comes_of_nothing() -> None:
    assert simulate_servers(Server(2, 100.0, [20.0]), [], 1, 20) == ([], 0)


@pytest.mark.parametrize("busy", [0.5, 0.7])
def test_one_core_waits_as_m_m_1(busy: float) -> None:
    assert mean_wait(1, busy, EXPONENTIAL) == pytest.approx(busy / (1 - busy), rel=0.06)


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_one_core_with_equal_photos_waits_as_m_d_1(busy: float) -> None:
    assert mean_wait(1, busy, CONSTANT) == pytest.approx(busy / (1 - busy) / 2, rel=0.04)


@pytest.mark.parametrize(("cores", "busy"), [(2, 0.7), (4, 0.8)])
def test_several_cores_wait_as_m_m_c(cores: int, busy: float) -> None:
    wait = erlang_c(cores, busy) / (cores * (1 - busy))
    assert mean_wait(cores, busy, EXPONENTIAL) == pytest.approx(wait, rel=0.06)


def test_what_finds_no_place_is_refused_as_m_m_1_k() -> None:
    server, places, busy = Server(1, 1000.0, EXPONENTIAL), 4, 0.9
    _, refused = simulate_servers(server, arrivals(900, 100, True), 1, places)
    share = (1 - busy) * busy**places / (1 - busy ** (places + 1))
    assert refused / 90_000 == pytest.approx(share, rel=0.05)


def test_what_holds_no_core_makes_nobody_wait() -> None:
    """Of 20 ms a photo holds one of two cores for 4."""
    server = Server(2, 500.0, [20.0])
    latencies, _ = simulate_servers(server, [0.0, 0.0, 0.0, 0.0, 1.0], 1, math.inf)
    assert latencies == pytest.approx([20.0, 20.0, 24.0, 24.0, 20.0])


def test_the_less_busy_of_two_servers_is_asked() -> None:
    """Nearly as good as one server of all cores, and much better than each for itself."""
    server, rate = Server(2, 2000.0, EXPONENTIAL), 12_800.0
    apart = predict_latency(server, rate / 8, 40.0, 1, math.inf)["p99"]
    shared = predict_latency(server, rate, 5.0, 8, math.inf)["p99"]
    together = predict_latency(Server(16, 16_000.0, EXPONENTIAL), rate, 5.0, 1, math.inf)["p99"]
    assert together < shared < 0.8 * apart


def test_a_plan_leaves_room_for_the_death_of_one() -> None:
    server = Server(2, 400.0, [5.0])
    planned = plan_servers(server, 1000.0, 10.0, 20)
    assert planned["replicas"] == 4
    assert planned["all"]["p99"] < planned["one gone"]["p99"]
    assert planned["one gone"]["refused"] == 0
    assert plan_servers(server, 1.0, 10.0, 20)["replicas"] == 2


def test_what_was_measured_is_laid_beside_what_it_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing ever waited: each photo takes 6 ms, of which it holds a core for 5."""
    monkeypatch.setattr(queueing, "PLAN", {100: 1.0})
    light = {"latencies_ms": [6.0] * 50, "lateness_ms": [0.1] * 50}
    shares = (queueing.LIGHT, *queueing.SHARES)
    loads = {str(share): [light | {"sent": share * 400}] for share in shares}
    monkeypatch.setattr(queueing.machine, "usable_cores", lambda: 2)
    found = compare_curves(Settings(seconds=1.0), {"most": {"median": 400.0}, "loads": loads})
    assert found["server"] == {"cores": 2, "most": 400.0, "light_ms": [6.0] * 200}
    assert [point["share"] for point in found["points"]] == list(queueing.SHARES)
    lightest, *_, fullest = found["points"]
    assert lightest["measured"]["p99"]["median"] == lightest["predicted"]["p50"] == 6.0
    assert fullest["error"]["p99"] > 0.5  # what hardly waits at 90% is not what theory says
    assert "loads" not in found
    assert len([*write_tables(found)]) == len(queueing.SHARES) + 1


def test_the_page_tells_what_was_found() -> None:
    found, page = read_result("queueing"), (PROJECT / "docs" / "scale.md").read_text()
    assert read_server(Settings().figures).most == found["server"]["most"]
    assert [row for row in write_tables(found) if row not in page] == []
    for point in found["points"]:
        error = point["error"]
        # "within a fifth"; "nearly twice"; "up to half as much again"
        assert abs(error["p50"]) <= 0.2 or (point["share"] > 0.7 and 1 + error["p50"] >= 1 / 2)
        assert 1 / 1.5 <= 1 + error["p99"] <= 1


def test_the_page_has_done_its_sums() -> None:
    found, page = read_result("queueing"), (PROJECT / "docs" / "scale.md").read_text()
    gateway_ms = read_result("gateway")["cost"]["CPU of the gateway, ms a photo"]
    cpu_ms = read_result("serving_steps_after_tuning")["concurrency"]["8"]["cpu_ms"]
    server, size, series = found["server"], found["bytes a photo"], found["series"]
    core_hours = 1e6 * server["cores"] / (3600 * server["most"] * FULL)
    gateway_hours = 1e6 * gateway_ms / 3.6e6 / FULL
    gateways = math.ceil(10_000 * gateway_ms / 1000 / FULL)
    beside_gpu = sum(cpu_ms.values()) - cpu_ms["stub ssd"]
    most_series = found["plan"][-1]["replicas"] * series["server"] + gateways * series["gateway"]
    prices = (core_hours + gateway_hours) * 0.05, size["answer"] / 1000 * 0.09, 24.6 / 2 * 0.02
    told = (
        f"two cores, int8, 640x480 | {server['most']:.0f} |",
        f"{size['request'] / 1000:.1f} kB, {size['answer'] / 1000:.1f} kB",
        f"| {series['server']:,}, {series['gateway']:,} |",
        f"{gateway_ms:.2f} ms of CPU: {1000 / gateway_ms:,.0f} a second",
        f"servers: {core_hours:.2f}",
        f"gateway: {gateway_hours:.2f}",
        f"take {10_000 * beside_gpu / 1000 / FULL:.0f} cores beside their GPUs",
        f"| 10,000 | {gateways} |",
        "{:.2f} + {:.2f} + {:.2f}".format(*prices),
    )
    assert [figure for figure in told if figure not in page] == []
    assert most_series < 30_000
