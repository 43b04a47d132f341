"""How many servers the chart's autoscaler asks for over a day, simulated from the measured curve.

    python -m benchmarks.autoscaling --output benchmarks/results/autoscaling.json

One server is the curve of latency over arrival rate that was measured of the ensemble. One day has
a peak, another one a jump to the same height, within a minute. Kubernetes' HorizontalPodAutoscaler
is its documented algorithm with the chart's targets and behaviour: every 15 s the metrics of the
last minute, ceil(servers * figure / target), nothing within 10%, the larger of two figures, limits
on changes a minute. A server answers 40 s after it was asked for. What is more than the gateway has
places for is refused.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
import yaml

from benchmarks import ROOT

CHART = ROOT / "deploy" / "kubernetes"
STEP = 5.0  # seconds of the simulation
SYNC, WINDOW = 15.0, 60.0  # seconds: how often the autoscaler looks, and how far back
TOLERANCE = 0.1
UP = {"percent": 100, "pods": 4}  # a minute, whichever is more
DOWN = {"percent": 20, "pods": 1}
STABILIZATION = 600.0  # seconds whose largest wish holds before a server is taken away
DAY = 86400.0
FIGURES = {
    "queue time": ("queue",),
    "requests under way": ("under_way",),
    "both, as the chart": ("under_way", "queue"),
}


@dataclass(frozen=True)
class Settings:
    """Simulate the chart's autoscaler over a day."""

    curve: Path = (
        ROOT / "benchmarks" / "results" / "serving_speed_without_queue_beside_fastapi.json"
    )
    """Figures of `benchmarks.serving_speed`, with a curve."""
    night: float = 150.0
    """Photos a second at night."""
    peak: float = 1800.0
    """Photos a second at the peak."""
    peak_hours: float = 2.0
    """Width of the peak, the standard deviation in hours."""
    start_seconds: float = 40.0
    """From the wish for a server to its first answer."""
    output: Path | None = None
    """JSON file to write the figures to."""


@dataclass(frozen=True)
class Curve:
    """One server: mean seconds of an answer at so many photos a second, and what it can do."""

    rates: Sequence[float]
    seconds: Sequence[float]

    @property
    def capacity(self) -> float:
        """Photos a second."""
        return self.rates[-1]

    @property
    def alone(self) -> float:
        """Seconds of an answer where nothing waits."""
        return self.seconds[0]

    def at(self, rate: float) -> float:
        """Seconds of an answer."""
        return float(np.interp(rate, self.rates, self.seconds))


@dataclass(frozen=True)
class Moment:
    """What one step of the day looks like."""

    answered: float  # photos a second
    refused: float
    seconds: float  # of an answer

    @property
    def under_way(self) -> float:
        """Requests in all servers together."""
        return self.answered * self.seconds


@dataclass
class Autoscaler:
    """The chart's values, and what the algorithm remembers."""

    values: Mapping[str, float]
    figures: Sequence[str]  # under_way, queue
    wishes: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def decide(self, servers: int, under_way: float, queue: float) -> int:
        """How many there shall be: once every SYNC seconds.

        Args:
            servers: how many there are, those that start among them.
            under_way: requests in all servers together.
            queue: seconds that a photo waits.
        """
        ratios = {
            "under_way": under_way / self.values["underWay"] / servers,
            "queue": queue / (self.values["queueMilliseconds"] / 1000),
        }
        wish = max(ceil_beyond_tolerance(servers, ratios[name]) for name in self.figures)
        self.wishes.append(wish)
        self.counts.append(servers)
        recent = self.counts[-round(WINDOW / SYNC) :]
        calm = max(self.wishes[-round(STABILIZATION / SYNC) :])
        most = max(min(recent) * (1 + UP["percent"] / 100), min(recent) + UP["pods"])
        least = min(max(recent) * (1 - DOWN["percent"] / 100), max(recent) - DOWN["pods"])
        wanted = min(wish, most) if wish > servers else max(min(calm, servers), least)
        low, high = self.values["minReplicas"], self.values["maxReplicas"]
        return round(min(max(math.ceil(wanted), low), high))


def ceil_beyond_tolerance(servers: int, ratio: float) -> float:
    """The documented rule for one figure."""
    return servers if abs(ratio - 1) <= TOLERANCE else math.ceil(servers * ratio)


def serve(curve: Curve, servers: int, rate: float, places: float) -> Moment:
    """What so many servers make of a rate; `places` is how many requests may be under way."""
    share = rate / servers
    if share < curve.capacity:
        return Moment(rate, 0.0, curve.at(share))
    answered = servers * curve.capacity
    return Moment(answered, rate - answered, max(curve.seconds[-1], places / answered))


def simulate(
    curve: Curve,
    scaler: Autoscaler,
    load: Callable[[float], float],
    places: float,
    start_seconds: float,
) -> tuple[list[Moment], list[int]]:
    """A day. Returns each step's moment and number of servers."""
    ready = [0.0] * round(scaler.values["minReplicas"])  # since when each server answers
    moments: list[Moment] = []
    counts: list[int] = []
    for step in range(round(DAY / STEP)):
        now = step * STEP
        answering = sum(since <= now for since in ready)
        moments.append(serve(curve, answering, load(now), places))
        counts.append(len(ready))
        if now % SYNC == 0:
            recent = moments[-round(WINDOW / STEP) :]
            under_way = float(np.mean([moment.under_way for moment in recent]))
            queue = float(np.mean([moment.seconds for moment in recent])) - curve.alone
            wanted = scaler.decide(len(ready), under_way, queue)
            ready = ready[:wanted] + [now + start_seconds] * (wanted - len(ready))
    return moments, counts


def read_curve(file: Path) -> Curve:
    """The int8 ensemble's, as far as it answers all that it is sent."""
    [measured] = [one for one in json.loads(file.read_text())["open_loop"] if one["case"] == "int8"]
    points = [point for point in measured["points"] if point["name"] == "ensemble"]
    points = [point for point in points if point["throughput"] > 0.95 * point["sent"]]
    return Curve(
        [point["throughput"] for point in points],
        [point["latency_ms"]["mean"] / 1000 for point in points],
    )


def summarize(moments: list[Moment], counts: list[int], curve: Curve) -> dict[str, float]:
    """A day in figures."""
    asked = np.array([m.answered + m.refused for m in moments])
    needed = np.maximum(np.ceil(asked / (0.8 * curve.capacity)), min(counts))
    return {
        "least servers": min(counts),
        "most servers": max(counts),
        "changes": int(np.count_nonzero(np.diff(counts))),
        "server-hours": sum(counts) * STEP / 3600,
        "server-hours that 80% of the capacity takes": float(needed.sum()) * STEP / 3600,
        "refused": float(sum(m.refused for m in moments) / asked.sum()),
        "p99 of the mean latency, ms": float(np.percentile([m.seconds for m in moments], 99)) * 1e3,
    }


def main() -> None:
    """Simulate three autoscalers and print a table."""
    settings = tyro.cli(Settings)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    scaling, gateway = values["autoscaling"], values["gateway"]
    curve = read_curve(settings.curve)
    places = (gateway["interactiveRequests"] + gateway["bulkRequests"]) * scaling["maxReplicas"]

    def rise(now: float) -> float:
        hours = (now / 3600 - 14) / settings.peak_hours
        return settings.night + (settings.peak - settings.night) * math.exp(-(hours**2) / 2)

    def jump(now: float) -> float:
        share = np.clip((now - 12 * 3600) / 60, 0, 1) if now < 14 * 3600 else 0.0
        return settings.night + (settings.peak - settings.night) * float(share)

    found: dict[str, object] = {"photos a second of a server": curve.capacity}
    for shape, load in (("peak", rise), ("jump", jump)):
        for name, figures in FIGURES.items():
            scaler = Autoscaler(scaling, figures)
            day = simulate(curve, scaler, load, places, settings.start_seconds)
            found[f"{shape}, {name}"] = figures_of_day = summarize(*day, curve)
            print(f"{shape}, {name}")
            print(*(f"  {key}: {value:.4g}" for key, value in figures_of_day.items()), sep="\n")
    if settings.output:
        settings.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
