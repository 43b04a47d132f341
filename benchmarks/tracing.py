"""What traces cost: photos a second through a gateway and a server, traced or not, in turns.

    python -m benchmarks.tracing --output benchmarks/results/tracing.json

Each way is a gateway and a server of its own over the same photos; the gateway decides what is
traced. A genuine collector on the same machine takes the spans and drops them; one has gone, and
one takes connections and says nothing. Each turn stands beside the untraced ones around it.
"""

import contextlib
import socket
import subprocess
import sys
import time
import timeit
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import tyro
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.worker import WorkerError
from benchmarks.gateway import Way
from benchmarks.measurement import figures, machine
from benchmarks.measurement.photos import find_photos
from client import Result
from client.telemetry.audience import observe_image
from client.transports.addresses import parse_addresses
from serving.errors import ServingError
from serving.fleet.fleet import Fleet, FleetSettings
from serving.server.prerequisites import choose_ports
from serving.server.settings import LOOPBACK

PLAIN = "not traced"
IMAGES = 5000  # of which each mean of the client's is
ADDRESS = parse_addresses("127.0.0.1:8001")[0]


@dataclass(frozen=True)
class Settings:
    """Measure what traces cost."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    repository: Path = ROOT / "model_repository"
    """Model repository."""
    ways: tuple[str, ...] = ("1%", "100%", "100%, no collector", "100%, a silent one")
    """What is measured beside what is not traced."""
    turns: int = 21
    """Turns of each."""
    seconds: float = 2.0
    """Of each turn."""
    concurrency: int = 8
    """Requests under way at once."""
    output: Path | None = None
    """JSON file to write the figures to."""


@contextlib.contextmanager
def _collecting() -> Iterator[str]:
    """Run a collector that drops what it is sent. Gives its URL."""
    spec = find_spec("rotel")
    if spec is None or spec.origin is None:
        raise ServingError("the package rotel, which carries a collector, is not installed")
    ports = choose_ports(
        {"--otlp-http-endpoint": (LOOPBACK, 0), "--otlp-grpc-endpoint": (LOOPBACK, 0)}
    )
    command = [str(Path(spec.origin).with_name("rotel-agent")), "start", "--exporter=blackhole"]
    command += [f"{option}={LOOPBACK}:{port}" for option, port in ports.items()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://{LOOPBACK}:{ports['--otlp-http-endpoint']}"
    finally:
        process.terminate()
        process.wait()


class Turn(NamedTuple):
    """What one turn of a way told."""

    throughput: float  # photos a second
    cpu_ms: float  # of the gateway and the server, for each inference, their own checks among them


class Traced(NamedTuple):
    """A gateway and a server, and who sends them photos."""

    fleet: Fleet
    way: Way

    def take_turn(self, s: Settings) -> Turn:
        """Send photos for a while."""
        cpu, inferences = self.cpu_seconds(), self.inferences()
        throughput = self.way.throughput(s.concurrency, s.seconds)
        spent = self.cpu_seconds() - cpu
        return Turn(throughput, 1000 * spent / (self.inferences() - inferences))

    def processes(self) -> list[psutil.Process]:
        """Envoy, tritonserver and its stubs."""
        server = psutil.Process(self.fleet.servers[0].process.pid)
        return [psutil.Process(self.fleet.gateway.envoy.pid), server, *server.children()]

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())

    def inferences(self) -> int:
        """Photos answered so far, those of checks among them."""
        with self.fleet.servers[0].control() as control:
            return control.answered("ensemble", "")


def _measure_ways(s: Settings, ways: dict[str, Traced]) -> dict[str, Any]:
    """The turns of each way, and what they are of the untraced ones around them."""
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    ratios: dict[str, list[Turn]] = {name: [] for name in ways if name != PLAIN}
    for way in ways.values():
        way.take_turn(s)
    before = ways[PLAIN].take_turn(s)
    for _ in tqdm(range(s.turns), disable=None):
        for name in ratios:
            found = ways[name].take_turn(s)
            after = ways[PLAIN].take_turn(s)
            ratios[name].append(Turn(*map(figures.ratio, found, before, after)))
            turns[name].append(found)
            turns[PLAIN].append(after)
            before = after
    return {"turns": _summarise(turns), "of not traced": _summarise(ratios)}


def _summarise(turns: dict[str, list[Turn]]) -> dict[str, Any]:
    return {
        name: {
            "photos a second": figures.spread([turn.throughput for turn in found]),
            "CPU a photo, ms": figures.spread([turn.cpu_ms for turn in found]),
        }
        for name, found in turns.items()
    }


def _measure_memory(fleet: Fleet) -> dict[str, float]:
    """Resident, of what sends spans."""
    pids = {"envoy": fleet.gateway.envoy.pid, "tritonserver": fleet.servers[0].process.pid}
    return {name: psutil.Process(pid).memory_info().rss / 2**20 for name, pid in pids.items()}


def _measure_client() -> dict[str, float]:
    """Microseconds that an image takes longer in the client; the provider stays in this process."""
    found = {"no provider": _time_image()}
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    trace.set_tracer_provider(TracerProvider())
    found["traced"] = _time_image()
    unsampled = trace.SpanContext(trace_id=1, span_id=1, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(unsampled)):
        found["not sampled"] = _time_image()
    return found


def _time_image() -> float:
    times = timeit.repeat(_observe_image, timer=time.process_time, number=IMAGES, repeat=5)
    return 1e6 * min(times) / IMAGES


def _observe_image() -> None:
    with observe_image("ensemble") as seen:
        seen.note_size(1)
        with seen.observe_try(ADDRESS, "ensemble"):
            pass
        seen.note_result(Result((), 1, 1, model="ensemble"))


def _measure_traces(s: Settings) -> dict[str, Any]:
    """Figures of the client, and of servers behind gateways."""
    photos = find_photos(s.photos)
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(_collecting())
        silent = stack.enter_context(socket.create_server((LOOPBACK, 0)))
        settings = {
            PLAIN: _make_settings(s),
            "1%": _make_settings(s, collector, 0.01),
            "100%": _make_settings(s, collector, 1.0),
            "100%, no collector": _make_settings(s, f"http://{LOOPBACK}:1", 1.0),
            "100%, a silent one": _make_settings(
                s, f"http://{LOOPBACK}:{silent.getsockname()[1]}", 1.0
            ),
        }
        fleets = {name: stack.enter_context(Fleet(settings[name])) for name in (PLAIN, *s.ways)}
        ways = {
            name: Traced(fleet, stack.enter_context(Way([fleet.url], photos)))
            for name, fleet in fleets.items()
        }
        return {
            "machine": machine.describe_machine(),
            **_measure_ways(s, ways),
            "memory, MiB": {name: _measure_memory(fleet) for name, fleet in fleets.items()},
            "microseconds an image in the client": _measure_client(),
        }


def _make_settings(s: Settings, url: str = "", share: float | None = None) -> FleetSettings:
    return FleetSettings(
        port=0, repository=str(s.repository), replicas=1, otlp_endpoint=url, trace_share=share
    )


def main(settings: Settings) -> None:
    """Measure and print."""
    figures.show_figures(_measure_traces(settings), settings.output)


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except (ServingError, WorkerError) as error:
        sys.exit(f"error: {error}")
