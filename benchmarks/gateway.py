"""What the gateway costs, and what it is worth when there is too much to do.

    python -m benchmarks.gateway --output benchmarks/results/gateway.json

Cost: one server, asked directly and through a gateway, in turns. Overload: several times what the
servers can do, through the gateway and directly, each server its share, in an open loop: requests
come whether others have been answered or not. Priorities: bulk work beyond all bounds, beside
interactive requests.

An answer is useful that comes within `useful_seconds`. Without a gateway what is sent stays in the
servers' queues, photos and all: that is sent for a shorter time, and answered after its end.
"""

import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants import processes
from benchmarks.contestants.ensemble import GRPC
from benchmarks.contestants.worker import Worker, WorkerError
from benchmarks.measurement import figures, machine
from benchmarks.measurement.photos import find_photos
from serving.errors import ServingError
from serving.fleet.configuration import GatewaySettings
from serving.fleet.fleet import Fleet, FleetSettings
from serving.fleet.gateway import Gateway

MEMORY_EVERY = 2.0  # seconds
NORMAL = 2.0  # times the time of a photo on idle servers
PATIENCE = 300.0  # seconds until servers are given up that are not normal again
BULK = {"priority": "u=7"}
OVERFLOW = "UO"  # Envoy's flag of a request beyond the limit of those under way


@dataclass(frozen=True)
class Settings:
    """Measure a gateway in front of embedded servers."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    repository: Path = ROOT / "model_repository"
    """Model repository."""
    replicas: int = 2
    """Servers behind the gateway."""
    turns: int = 15
    """Turns of each in what the gateway costs."""
    shares: tuple[float, ...] = (3.0, 5.0)
    """Times the servers' capacity that is sent."""
    rounds: int = 1
    """Times that each overload is measured: more and shorter ones on a machine that others use."""
    seconds: float = 180.0
    """How long through the gateway."""
    bare_seconds: float = 15.0
    """How long without it."""
    useful_seconds: float = 2.0
    """Until when an answer is of use."""
    concurrency: int = 8
    """Requests under way at each server where capacity is measured."""
    output: Path | None = None
    """JSON file to write the figures to."""


class Way:
    """Load generators, each on an address, that work together.

    Args:
        addresses: of each generator.
        photos: what is sent.
        metadata: of each request.

    Attributes:
        sent: requests so far.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        photos: Sequence[Path],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        setup = GRPC | {"photos": [str(photo) for photo in photos], "metadata": metadata or {}}
        self._workers = [
            Worker("benchmarks.load.generator", setup | {"address": address})
            for address in addresses
        ]
        self.sent = 0

    def __enter__(self) -> "Way":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.__exit__()

    def ask(self, **command: Any) -> list[dict[str, Any]]:
        """What came of the same load from each generator."""
        for worker in self._workers:
            worker.send(command)
        found = [worker.receive() for worker in self._workers]
        self.sent += sum(each["total"] for each in found)
        return found

    def throughput(self, concurrency: int, seconds: float) -> float:
        """Photos a second in a closed loop, so many under way from each generator."""
        found = self.ask(concurrency=concurrency, seconds=seconds)
        return sum(each["completed"] / each["seconds"] for each in found)

    def one_at_a_time(self, requests: int) -> float:
        """The median of so many photos' milliseconds; infinite when one was refused."""
        found = self._workers[0].ask({"concurrency": 1, "requests": requests})
        self.sent += requests
        all_came = found["completed"] == requests
        return figures.percentile(found["latencies_ms"], 0.5) if all_came else float("inf")

    def send_at(self, rate: float, seconds: float) -> list[dict[str, Any]]:
        """What came of so many photos a second, of all generators together."""
        return self.ask(rate=rate / len(self._workers), seconds=seconds)


def _measure_cost(s: Settings, direct: Way, through: Way, envoy: int) -> dict[str, Any]:
    """One server with and without a gateway: each turn stands beside its two neighbours."""
    process = psutil.Process(envoy)
    before = sum(process.cpu_times()[:2])
    throughputs: list[list[float]] = [[], []]
    medians: list[list[float]] = [[], []]
    for _ in tqdm(range(s.turns), desc="cost", disable=None):
        for found, alone, way in zip(throughputs, medians, (direct, through), strict=True):
            found.append(way.throughput(s.concurrency, 2.0))
            alone.append(way.one_at_a_time(40))
    spent = sum(process.cpu_times()[:2]) - before
    return {
        "CPU of the gateway, ms a photo": 1000 * spent / through.sent,
        "throughput": {
            "direct": figures.spread(throughputs[0]),
            "through the gateway": figures.spread(throughputs[1]),
            "ratio": figures.spread(_ratios(*throughputs)),
        },
        "p50 of one at a time, ms": {
            "direct": figures.spread(medians[0]),
            "through the gateway": figures.spread(medians[1]),
            "more": figures.spread([b - a for a, b in zip(*medians, strict=True)]),
        },
    }


def _ratios(direct: Sequence[float], through: Sequence[float]) -> list[float]:
    """Each turn through the gateway beside the direct ones before and after it."""
    neighbours = zip(direct[:-1], through[:-1], direct[1:], strict=True)
    return [figures.ratio(value, before, after) for before, value, after in neighbours]


def _measure_overload(
    s: Settings, way: Way, share: float, seconds: float, log: Path
) -> dict[str, Any]:
    """Several times the capacity, which is measured before and after."""
    read = log.stat().st_size
    quiet_ms = way.one_at_a_time(20)
    before = way.throughput(s.concurrency, 5.0)
    with _memory() as samples:
        began = time.monotonic()
        found = way.send_at(share * before, seconds)
        normal_after = _wait_until_normal(way, NORMAL * quiet_ms) - began - seconds
    capacity = statistics.fmean([before, way.throughput(s.concurrency, 5.0)])
    answers = [ms for each in found for ms in each["latencies_ms"]]
    useful = sum(ms <= 1000 * s.useful_seconds for ms in answers) / seconds
    return {
        "seconds": seconds,
        "capacity": capacity,
        "sent a second": sum(each["sent"] for each in found),
        "useful a second": useful,
        "useful, of the capacity": useful / capacity,
        "answered, ms": figures.latency(answers),
        "refused, ms": figures.latency([ms for each in found for ms in each["failed_ms"]]),
        "refused, by the gateway's clock, ms": figures.latency(_refused_ms(log, read)),
        "generator late, ms": figures.latency([ms for each in found for ms in each["lateness_ms"]]),
        "verdicts": dict(sum((Counter(each["verdicts"]) for each in found), Counter())),
        "normal after, s": normal_after,
        "memory, MiB": summarise_memory(samples),
    }


def _refused_ms(log: Path, begin: int) -> list[float]:
    """From the first byte of each refused request to the last of its answer, in whole milliseconds;
    of the access log's entries from a byte on."""
    with log.open() as lines:
        lines.seek(begin)
        entries = (json.loads(line) for line in lines if line.endswith("\n"))
        return [float(entry["milliseconds"]) for entry in entries if entry["flags"] == OVERFLOW]


def _wait_until_normal(way: Way, limit_ms: float) -> float:
    """When ten photos one after the other came as fast as that, by time.monotonic."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if way.one_at_a_time(10) <= limit_ms:
            return time.monotonic()
    return float("inf")


@contextlib.contextmanager
def _memory() -> Iterator[list[dict[str, float]]]:
    """Resident MiB by role, of all that was started here, looked at while the context lasts."""
    samples: list[dict[str, float]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(MEMORY_EVERY):
            found = processes.memory(psutil.Process().children(recursive=True))
            samples.append({role: sizes["rss"] for role, sizes in found.items()})

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def summarise_memory(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """By role, without the generators: first, after a fifth of the time, largest, last."""
    return {
        role: {
            "first": samples[0][role],
            "after a fifth": samples[len(samples) // 5].get(role, 0.0),
            "largest": max(each.get(role, 0.0) for each in samples),
            "last": samples[-1].get(role, 0.0),
        }
        for role in (samples[0] if samples else ())
        if role == "envoy" or role == "tritonserver" or role.startswith("stub")
    }


def _measure_priorities(s: Settings, bulk: Way, others: Way) -> dict[str, Any]:
    """Bulk work at the largest share, beside interactive requests at 30% of the capacity."""
    capacity = others.throughput(s.concurrency * s.replicas, 5.0)
    seconds = min(30.0, s.seconds)
    found: dict[str, Any] = {"capacity": capacity, "alone": _ask(others, 0.3 * capacity, seconds)}
    flood = threading.Thread(target=bulk.send_at, args=(max(s.shares) * capacity, seconds))
    flood.start()
    found["beside bulk work"] = _ask(others, 0.3 * capacity, seconds)
    flood.join()
    return found


def _ask(way: Way, rate: float, seconds: float) -> dict[str, Any]:
    (answer,) = way.send_at(rate, seconds)
    return {"verdicts": answer["verdicts"], "ms": figures.latency(answer["latencies_ms"])}


def _measure(s: Settings) -> Iterator[tuple[str, Any]]:
    photos = find_photos(s.photos)
    with contextlib.ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "access.log"
        fleet = Fleet(
            FleetSettings(
                port=0, repository=str(s.repository), replicas=s.replicas, access_log=str(log)
            ),
            _tell,
        )
        servers = stack.enter_context(fleet).servers
        one = stack.enter_context(Gateway(GatewaySettings(port=0), fleet.addresses()[:1]))
        ways = {
            "through the gateway": Way([fleet.url] * s.replicas, photos),
            "directly": Way([server.grpc_url for server in servers], photos),
        }
        direct, through = Way([servers[0].grpc_url], photos), Way([one.url], photos)
        bulk, others = Way([fleet.url], photos, BULK), Way([fleet.url], photos)
        for way in (*ways.values(), direct, through, bulk, others):
            stack.enter_context(way)
        yield "cost", _measure_cost(s, direct, through, one.envoy.pid)
        yield "priorities", _measure_priorities(s, bulk, others)
        for number, share in itertools.product(range(1, s.rounds + 1), s.shares):
            for name, way in ways.items():
                seconds = s.seconds if name == "through the gateway" else s.bare_seconds
                found = _measure_overload(s, way, share, seconds, log)
                yield f"{share:g} times, {name}, round {number}", found


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def main(settings: Settings) -> None:
    """Measure and print."""
    found: dict[str, Any] = {"machine": machine.describe_machine()}
    for name, value in _measure(settings):
        found[name] = value
        figures.show_figures({name: value}, None)
    if settings.output:
        figures.show_figures(found, settings.output)


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except (ServingError, WorkerError) as error:
        sys.exit(f"error: {error}")
