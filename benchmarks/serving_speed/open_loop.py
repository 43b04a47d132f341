"""At given arrival rates: how latency grows with the load, and what happens past saturation.

Users do not wait for each other's answers. So requests go out at times drawn before (a Poisson
process), however slow the answers are, and latency counts from the time a request was meant to go
out.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from benchmarks.contestants.served import Served, Target
from benchmarks.contestants.slice import Slice
from benchmarks.measurement import figures
from benchmarks.serving_speed.bench import Bench, Case

SHARES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)  # of what the closed loop reached
REPEATS = 2  # of each point
FIXED_SHARE = 0.8  # of the peer's maximum: where tails are compared
SERVED_SHARE = 0.95  # answers a second of what was sent a second: below that it is saturated


def measure_arrival_rates(
    bench: Bench, ours: Target, rival: Target | None, case: Case
) -> dict[str, Any]:
    """Curves of the ensemble and, in turns with it, of the best peer; then tails at one rate."""
    with bench.served(ours, case) as one:
        if rival is None:
            return _measure(bench, [one], case)
        with bench.served(rival, case) as other:
            return _measure(bench, [one, other], case)


def _measure(bench: Bench, servers: Sequence[Served], case: Case) -> dict[str, Any]:
    s = bench.settings
    most = _maxima(servers, max(s.concurrencies), s.seconds)
    points = []
    for share in tqdm(SHARES, desc=f"arrival rates, {case.name}", disable=None):
        slices: dict[str, list[Slice]] = {server.name: [] for server in servers}
        for _ in range(REPEATS):
            for server in servers:
                slices[server.name].append(server.run_at(share * most[server.name], s.open_seconds))
        points += [
            {"name": name, "share": share} | point(found, share * most[name])
            for name, found in slices.items()
        ]
    found = {
        "case": case.name,
        "maximum": most,
        "points": points,
        "saturation": {server.name: saturation(points, server.name) for server in servers},
    }
    if len(servers) > 1:
        found["at_fixed_rate"] = _tails(bench, servers)
    return found


def _maxima(servers: Sequence[Served], concurrency: int, seconds: float) -> dict[str, float]:
    """Photos a second in a closed loop, now: the median of five turns."""
    found: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(5):
        for server in servers:
            found[server.name].append(server.run(concurrency, seconds).throughput)
    return {name: statistics.median(values) for name, values in found.items()}


def point(slices: Sequence[Slice], rate: float) -> dict[str, Any]:
    """What came of one arrival rate."""
    verdicts = dict.fromkeys(verdict for each in slices for verdict in each.verdicts)
    latencies = [ms for each in slices for ms in each.latencies_ms]
    return {
        "rate": rate,
        "sent": statistics.fmean(each.sent for each in slices),
        "throughput": statistics.fmean(each.throughput for each in slices),
        "latency_ms": figures.latency(latencies),
        "lateness_p99_ms": figures.percentile(
            [ms for each in slices for ms in each.lateness_ms], 0.99
        ),
        "verdicts": {v: sum(each.verdicts.get(v, 0) for each in slices) for v in verdicts},
    }


def saturation(points: Sequence[Mapping[str, Any]], name: str) -> float:
    """The highest rate whose requests are all answered about as fast as they come."""
    good = [
        each["rate"]
        for each in points
        if each["name"] == name
        and set(each["verdicts"]) <= {"OK"}
        and each["throughput"] >= SERVED_SHARE * each["sent"]
    ]
    return max(good, default=0.0)


def _tails(bench: Bench, servers: Sequence[Served]) -> dict[str, Any]:
    """p99 of all at the same rate: a share of what the last of them, the peer, can do at most."""
    s = bench.settings
    rival = servers[-1]
    rate = FIXED_SHARE * _maxima([rival], max(s.concurrencies), s.seconds)[rival.name]
    slices: dict[str, list[Slice]] = {server.name: [] for server in servers}
    for _ in tqdm(range(max(3, s.slices)), desc=f"at {rate:.0f} photos a second", disable=None):
        for server in servers:
            slices[server.name].append(server.run_at(rate, s.open_seconds))
    return {
        "rate": rate,
        "contestants": {
            name: point(found, rate)
            | {"p99_ms": figures.spread([figures.percentile(x.latencies_ms, 0.99) for x in found])}
            for name, found in slices.items()
        },
    }
