"""Networks' time for an image on one thread, beside that of the first.

    python -m benchmarks.network_speed model_repository/ssd/1/model.onnx \
        model_repository/ssd/2/model.onnx artifacts/mine/float32/model.onnx \
        artifacts/mine/int8/model.onnx --output benchmarks/results/network_speed.json

Compare ratios only: what else the machine does meets all of them, and slows all of them.
"""

import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.measurement.figures import show_figures
from benchmarks.measurement.machine import describe_machine
from benchmarks.measurement.race import race_networks


@dataclasses.dataclass(frozen=True)
class Settings:
    """Time exported networks in turns."""

    networks: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """ONNX files of `training export`, of any size and precision."""
    rounds: int = 200
    """Images that each is timed on."""
    output: Path | None = None
    """JSON file to write the figures to."""


def compare_times(times: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Quartiles of each network's milliseconds, and of its time beside the first's in a round."""
    first = next(iter(times.values()))
    return {
        name: {
            "ms": _quartiles(taken),
            "beside the first": _quartiles([a / b for a, b in zip(taken, first, strict=True)]),
        }
        for name, taken in times.items()
    }


def _quartiles(values: list[float]) -> list[float]:
    return [round(x, 2) for x in statistics.quantiles(values, n=4)]


def main(settings: Settings) -> int:
    """Time the networks and print the figures."""
    times = race_networks({str(path): path for path in settings.networks}, settings.rounds)
    found = {"machine": describe_machine(), "rounds": settings.rounds, **compare_times(times)}
    show_figures(found, settings.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
