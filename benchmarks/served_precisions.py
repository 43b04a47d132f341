"""How much faster the ensemble is in int8 than in float32: two servers that take turns.

    python -m benchmarks.served_precisions --photos data/val.json \
        --output benchmarks/results/served_precisions.json

The mAP of both stands in docs/export.md.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.ensemble import ensemble, repository_with
from benchmarks.contestants.served import Served
from benchmarks.contestants.slice import ContestantError
from benchmarks.measurement import machine
from benchmarks.measurement.accuracy import expected
from benchmarks.measurement.photos import find_photos

REPOSITORY = ROOT / "model_repository"


@dataclass(frozen=True)
class Settings:
    """Compare the served throughput of two networks."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    one: Path = REPOSITORY / "ssd" / "1" / "model.onnx"
    """ONNX file, such as that in float32."""
    other: Path = REPOSITORY / "ssd" / "2" / "model.onnx"
    """ONNX file, such as that in int8."""
    concurrency: int = 8
    """Requests under way at once."""
    slices: int = 14
    """Turns of each."""
    seconds: float = 1.0
    """Of each turn."""
    output: Path | None = None
    """JSON file to write the figures to."""


def _measure_ratio(s: Settings, folder: Path) -> dict[str, Any]:
    """Photos a second of both, turn by turn, and the quartiles of their ratio."""
    photos = find_photos(s.photos)
    with (
        repository_with(s.one, REPOSITORY) as first,
        repository_with(s.other, REPOSITORY) as second,
        Served(ensemble(first), photos, expected(s.one, photos), folder / "one") as one,
        Served(ensemble(second), photos, expected(s.other, photos), folder / "other") as other,
    ):
        for server in (one, other):
            server.run(s.concurrency, 2.0)
        turns = [
            [server.run(s.concurrency, s.seconds).throughput for server in (one, other)]
            for _ in tqdm(range(s.slices), disable=None)
        ]
    return {
        "machine": machine.describe_machine(),
        "concurrency": s.concurrency,
        "photos_a_second": turns,
        "ratio": quantiles((after / before for before, after in turns), n=4),
    }


def main(settings: Settings) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="served-precisions-") as folder:
        result = _measure_ratio(settings, Path(folder))
    if settings.output:
        settings.output.write_text(json.dumps(result, indent=1) + "\n")
    low, middle, high = result["ratio"]
    one, other = (median(turn[n] for turn in result["photos_a_second"]) for n in (0, 1))
    print(f"{one:.0f} and {other:.0f} photos/s: {middle:.2f} times ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except ContestantError as error:
        sys.exit(f"error: {error}")
