"""How long answers take at a load and a number of servers, simulated from two measurements of one.

    python -m benchmarks.queueing --rate 1000 --replicas 5     # predicts, from what was measured
    python -m benchmarks.queueing --measure                    # measures anew, five minutes

A server is its cores, each with one photo at a time, and one line before them. What is measured of
it is how many photos a second it answers at most, and how long one takes where hardly any waits.
A photo holds a core for cores / most seconds on average; the rest of its time, on its way, holds
none. Photos come as independent users send them. The gateway gives each to the less busy of two
servers drawn by chance, and refuses what it has no place for. Nothing is batched, as shipped for
CPUs. `--measure` writes the measured curve beside the predicted one, and how many servers each
order of magnitude takes.
"""

import heapq
import json
import math
import random
import statistics
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.worker import WorkerError
from benchmarks.gateway import Way
from benchmarks.load.loops import arrivals
from benchmarks.measurement import figures, machine
from benchmarks.measurement.photos import find_photos
from serving.errors import ServingError
from serving.fleet.fleet import Fleet, FleetSettings
from serving.tuning.load_generator import METHOD, serialise_request

LIGHT = 0.1  # of the most: hardly any photo waits
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9)  # of the most, where measured and predicted are compared
CONCURRENCY = 8  # that gives the most
QUANTILES = 200  # of the light load's latencies: as many are kept
PLAN = {10: 600.0, 100: 120.0, 1_000: 60.0, 10_000: 20.0}  # photos a second: seconds simulated
FULL = 0.7  # of the most: how busy a plan's servers are


@dataclass(frozen=True)
class Settings:
    """Predict latency at a load and a number of servers."""

    rate: float = 1000.0
    """Photos a second of all clients."""
    replicas: int = 5
    """Servers, each as the measured one, on cores of its own."""
    places: int = 20
    """Requests under way for each server at most; the gateway refuses more."""
    figures: Path = ROOT / "benchmarks" / "results" / "queueing.json"
    """What was measured; --measure writes it."""
    measure: bool = False
    """Measure one server here, compare, and write the figures."""
    rounds: int = 7
    """Times that each load is measured."""
    seconds: float = 5.0
    """Of each load in each round."""
    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""


@dataclass(frozen=True)
class Server:
    """One server, as it was measured: its cores, photos a second at most, latencies (ms) of a
    light load."""

    cores: int
    most: float
    light_ms: Sequence[float]

    @property
    def held(self) -> float:
        """The share of a light load's latency that holds a core."""
        return 1000 * self.cores / self.most / statistics.fmean(self.light_ms)


def simulate_servers(
    server: Server, times: Sequence[float], replicas: int, places: float, seed: int = 0
) -> tuple[list[float], int]:
    """What becomes of photos that arrive at these times (s): latencies (ms), how many are refused.

    Args:
        server: each of them.
        times: in order.
        replicas: servers.
        places: requests under way in all of them together, at most.
        seed: of what is drawn.
    """
    chance = random.Random(f"photos {seed}")  # not as the times were drawn, maybe of the same seed
    lines = [[0.0] * server.cores for _ in range(replicas)]  # when each core is free
    busy = [0] * replicas
    under_way: list[tuple[float, int]] = []  # when each answer is there, and whose it is
    latencies, refused, held = [], 0, server.held
    for time, light in zip(times, chance.choices(server.light_ms, k=len(times)), strict=True):
        while under_way and under_way[0][0] <= time:
            busy[heapq.heappop(under_way)[1]] -= 1
        if len(under_way) >= places:
            refused += 1
            continue
        one, other = chance.randrange(replicas), chance.randrange(replicas)
        chosen = min(one, other, key=busy.__getitem__)
        begin = max(time, lines[chosen][0])
        heapq.heapreplace(lines[chosen], begin + held * light / 1000)
        latencies.append(1000 * (begin - time) + light)
        busy[chosen] += 1
        heapq.heappush(under_way, (time + latencies[-1] / 1000, chosen))
    return latencies, refused


def predict_latency(
    server: Server, rate: float, seconds: float, replicas: int, places: float, runs: int = 1
) -> dict[str, float]:
    """Latency (ms) and the share refused, over some runs that begin with nothing under way."""
    found = [
        simulate_servers(server, arrivals(rate, seconds, True, seed), replicas, places, seed)
        for seed in range(runs)
    ]
    latencies = [ms for each, _ in found for ms in each]
    refused = sum(count for _, count in found)
    return figures.latency(latencies) | {"refused": refused / max(1, refused + len(latencies))}


def plan_servers(server: Server, rate: float, seconds: float, places: int) -> dict[str, Any]:
    """As many servers as are busy for FULL of what they can do, two at least, and one fewer."""
    replicas = max(2, math.ceil(rate / (FULL * server.most)))
    all_places = places * replicas  # the gateway's, which knows no deaths
    return {
        "rate": rate,
        "replicas": replicas,
        "all": predict_latency(server, rate, seconds, replicas, all_places),
        "one gone": predict_latency(server, rate, seconds, replicas - 1, all_places),
    }


def read_server(file: Path) -> Server:
    """The measured one."""
    return Server(**json.loads(file.read_text())["server"])


def _measure_server(s: Settings) -> dict[str, Any]:
    """Measure one server at several loads, in turns."""
    photos, here = find_photos(s.photos), machine.describe_machine()
    fleet = Fleet(FleetSettings(port=0, replicas=1), lambda line: print(line, file=sys.stderr))
    with fleet, Way([fleet.servers[0].grpc_url], photos) as way:
        [one] = fleet.servers
        sizes = [_exchange(one.grpc_url, photo.read_bytes()) for photo in photos]
        way.throughput(CONCURRENCY, 5.0)
        rounds = [_measure_round(s, way) for _ in tqdm(range(s.rounds), disable=None)]
        urls = {"server": one.metrics_url, "gateway": fleet.gateway.metrics_url}
        series = {name: _count_series(url) for name, url in urls.items()}
    return {
        "machine": here,
        "bytes a photo": dict(zip(("request", "answer"), np.mean(sizes, 0), strict=True)),
        "series": series,
        "most": figures.spread([most for most, _ in rounds]),
        "loads": {str(share): [loads[share] for _, loads in rounds] for share in (LIGHT, *SHARES)},
    }


def _measure_round(s: Settings, way: Way) -> tuple[float, dict[float, dict[str, Any]]]:
    """Photos a second at most, and what came of each share of it."""
    most = way.throughput(CONCURRENCY, 3.0)
    return most, {share: way.send_at(share * most, s.seconds)[0] for share in (LIGHT, *SHARES)}


def _exchange(address: str, photo: bytes) -> tuple[int, int]:
    """How many bytes one request and its answer have."""
    request = serialise_request(photo, "ensemble")
    with grpc.insecure_channel(address) as channel:
        return len(request), len(channel.unary_unary(METHOD)(request))


def _count_series(address: str) -> int:
    """How many lines of /metrics are values."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return sum(not line.startswith(b"#") for line in answer if line.strip())


def compare_curves(s: Settings, found: Mapping[str, Any]) -> dict[str, Any]:
    """The server that two measurements make, and what it predicts beside all others."""
    light = [ms for each in found["loads"][str(LIGHT)] for ms in each["latencies_ms"]]
    cores = round(machine.usable_cores())
    kept = np.quantile(light, (np.arange(QUANTILES) + 0.5) / QUANTILES).round(3).tolist()
    server = Server(cores, round(found["most"]["median"], 1), kept)
    points = [_compare_point(s, server, share, found["loads"][str(share)]) for share in SHARES]
    plan = [plan_servers(server, rate, seconds, s.places) for rate, seconds in PLAN.items()]
    rest = {key: value for key, value in found.items() if key != "loads"}
    return rest | {"server": asdict(server), "points": points, "plan": plan}


def _compare_point(
    s: Settings, server: Server, share: float, rounds: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    rate = statistics.fmean(each["sent"] for each in rounds)
    # Medians over the rounds: one in which the machine did something else would be all of the tail.
    measured = {
        key: figures.spread([figures.percentile(e["latencies_ms"], q) for e in rounds])
        for key, q in (("p50", 0.5), ("p99", 0.99))
    }
    predicted = predict_latency(server, rate, s.seconds, 1, float("inf"), runs=100)
    late = [ms for each in rounds for ms in each["lateness_ms"]]
    return {
        "share": share,
        "rate": rate,
        "measured": measured,
        "generator late, p99 ms": figures.percentile(late, 0.99),
        "predicted": predicted,
        "error": {key: predicted[key] / said["median"] - 1 for key, said in measured.items()},
    }


def write_tables(found: Mapping[str, Any]) -> Iterator[str]:
    """The rows of docs/scale.md, which a test compares with the figures."""
    for each in found["points"]:
        m, p, e = each["measured"], each["predicted"], each["error"]
        cells = [f"{each['rate']:.0f}", f"{each['share']:.0%}"]
        cells += [f"{m[k]['median']:.1f} | {p[k]:.1f} | {e[k]:+.0%}" for k in ("p50", "p99")]
        yield f"| {' | '.join(cells)} |"
    for each in found["plan"]:
        replicas, cores = each["replicas"], each["replicas"] * found["server"]["cores"]
        busy = each["rate"] / replicas / found["server"]["most"]
        cells = [f"{each['rate']:,}", f"{replicas}", f"{cores}", f"{busy:.0%}"]
        cells += [
            f"{each['all']['p50']:.0f}",
            *(f"{each[k]['p99']:.0f}" for k in ("all", "one gone")),
        ]
        yield f"| {' | '.join(cells)} |"


def main(s: Settings) -> None:
    """Measure and compare, or predict."""
    if s.measure:
        found = compare_curves(s, _measure_server(s))
        s.figures.write_text(json.dumps(found, indent=1) + "\n")
        print(*write_tables(found), sep="\n")
        return
    if min(s.rate, s.replicas, s.places) <= 0:
        sys.exit("error: --rate, --replicas and --places must be more than 0")
    server = read_server(s.figures)
    found = predict_latency(server, s.rate, 60.0, s.replicas, s.places * s.replicas)
    figures.show_figures(found, None)


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except (ServingError, WorkerError) as error:
        sys.exit(f"error: {error}")
