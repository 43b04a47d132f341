"""What it costs to measure photos and detections for /metrics: two servers that take turns.

    python -m benchmarks.measuring --turns 150 --seconds 0.5 \
        --output benchmarks/results/measuring.json

One serves the repository as it is, the other a copy whose models count nothing. Which one is first
changes from turn to turn.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.ensemble import ensemble, newest_network, repository_with
from benchmarks.contestants.served import Served
from benchmarks.contestants.slice import ContestantError, Slice
from benchmarks.measurement import machine
from benchmarks.measurement.accuracy import expected
from benchmarks.measurement.figures import percentile, show_figures, spread
from benchmarks.measurement.photos import find_photos

REPOSITORY = ROOT / "model_repository"
NOTHING = """
Reporter.__init__ = Reporter.attempt = Reporter.stop = lambda self, *_: None
"""


@dataclass(frozen=True)
class Settings:
    """Compare the served throughput with and without measuring."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    concurrency: int = 8
    """Requests under way at once."""
    turns: int = 120
    """Of each server."""
    seconds: float = 1.0
    """Of each turn."""
    output: Path | None = None
    """JSON file to write the figures to."""


@contextmanager
def unmeasured_repository() -> Iterator[Path]:
    """A copy of the repository whose models count nothing."""
    with repository_with(newest_network(REPOSITORY), REPOSITORY) as folder:
        for metrics in folder.glob("*/1/metrics.py"):
            with metrics.open("a") as code:
                code.write(NOTHING)
        yield folder


def _take_turns(s: Settings, logs: Path) -> list[dict[str, Slice]]:
    """What both did in each turn."""
    photos, network = find_photos(s.photos), newest_network(REPOSITORY)
    with (
        repository_with(network, REPOSITORY) as measured,
        unmeasured_repository() as unmeasured,
        Served(ensemble(measured), photos, expected(network, photos), logs / "one") as one,
        Served(ensemble(unmeasured), photos, expected(network, photos), logs / "other") as other,
    ):
        servers = {"measured": one, "unmeasured": other}
        for server in servers.values():
            server.run(s.concurrency, 3.0)
        turns = []
        for _ in tqdm(range(s.turns), disable=None):
            servers = dict(reversed(servers.items()))
            turns.append({k: each.run(s.concurrency, s.seconds) for k, each in servers.items()})
    return turns


def measure_cost(s: Settings) -> dict[str, Any]:
    """Throughput and latency of both, and the ratio of each turn's throughputs."""
    with tempfile.TemporaryDirectory(prefix="measuring-") as folder:
        turns = _take_turns(s, Path(folder))
    ratios = [turn["measured"].throughput / turn["unmeasured"].throughput for turn in turns]
    return {
        "machine": machine.describe_machine(),
        "concurrency": s.concurrency,
        "seconds": s.seconds,
        "ratio": spread(ratios),
        **{
            name: {
                "photos_a_second": spread([turn[name].throughput for turn in turns]),
                "p50_ms": spread([percentile(t[name].latencies_ms, 0.5) for t in turns]),
                "p99_ms": spread([percentile(t[name].latencies_ms, 0.99) for t in turns]),
                "cpu_ms_a_photo": spread([_cpu_ms(turn[name]) for turn in turns]),
            }
            for name in ("measured", "unmeasured")
        },
        "ratios": ratios,
    }


def _cpu_ms(of: Slice) -> float:
    """CPU time of the whole server for a photo."""
    return 1000 * sum(of.server_cpu.values()) / of.total


if __name__ == "__main__":
    try:
        settings = tyro.cli(Settings)
        show_figures(measure_cost(settings), settings.output)
    except ContestantError as error:
        sys.exit(f"error: {error}")
