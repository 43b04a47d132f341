"""Whether the client keeps the server busy, and what a photo takes with no server at all.

    python -m benchmarks.clients --photos data/val.json --output benchmarks/results/clients.json

`detect_many` takes turns with the load generator of the other benchmarks, which costs a third of
the CPU, on one server and the same cores. Then photos one by one: served, and by LocalDetector.
"""

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.ensemble import ensemble
from benchmarks.contestants.served import Served
from benchmarks.contestants.slice import ContestantError
from benchmarks.measurement import machine
from benchmarks.measurement.photos import find_photos
from client import Detector, LocalDetector, Result

REPOSITORY = ROOT / "model_repository"
WARM_UP = 20  # photos


@dataclass(frozen=True)
class Settings:
    """Measure the clients over the shipped repository."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    concurrency: int = 8
    """Requests under way at once."""
    slices: int = 7
    """Turns of each."""
    count: int = 600
    """Photos in each turn of detect_many, and one by one."""
    output: Path | None = None
    """JSON file to write the figures to."""


def _measure_clients(s: Settings, folder: Path) -> dict[str, Any]:
    """Photos a second at saturation, and milliseconds of one at a time."""
    photos = find_photos(s.photos)
    with (
        Served(ensemble(REPOSITORY), photos, (), folder / "log") as server,
        Detector(server.address) as detector,
        LocalDetector(REPOSITORY) as local,
    ):
        server.run(s.concurrency, 2.0)
        turns = [
            (rate(detector, photos, s), server.run(s.concurrency, 1.5).throughput)
            for _ in tqdm(range(s.slices), disable=None)
        ]
        times = _one_by_one([detector.detect, local.detect], photos, s.count)
    return {
        "machine": machine.describe_machine(),
        "detect_many beside the generator": quantiles((a / b for a, b in turns), n=4),
        "photos_a_second": turns,
        "milliseconds": dict(zip(("served", "local"), times, strict=True)),
    }


def rate(detector: Detector, photos: Sequence[Path], s: Settings) -> float:
    """Photos a second of one turn of detect_many."""
    files = itertools.islice(itertools.cycle(photos), s.count)
    began = time.perf_counter()
    done = sum(1 for _ in detector.detect_many(files, concurrency=s.concurrency))
    return done / (time.perf_counter() - began)


def _one_by_one(
    ways: Sequence[Callable[[Path], Result]], photos: Sequence[Path], count: int
) -> list[list[float]]:
    """The quartiles of each way's milliseconds, photo by photo in turns."""
    taken: list[list[float]] = [[] for _ in ways]
    for photo in itertools.islice(itertools.cycle(photos), WARM_UP + count):
        for times, detect in zip(taken, ways, strict=True):
            began = time.perf_counter()
            detect(photo)
            times.append(1000 * (time.perf_counter() - began))
    return [quantiles(times[WARM_UP:], n=4) for times in taken]


def main(settings: Settings) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        result = _measure_clients(settings, Path(folder))
    if settings.output:
        settings.output.write_text(json.dumps(result, indent=1) + "\n")
    for name, values in (
        ("detect_many beside the load generator", result["detect_many beside the generator"]),
        *((f"ms a photo, {name}", times) for name, times in result["milliseconds"].items()),
    ):
        low, middle, high = values
        print(f"{name}: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except ContestantError as error:
        sys.exit(f"error: {error}")
