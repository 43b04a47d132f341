"""What `training run` reached, over outputs that differ in their seed alone.

for seed in 0 1 2; do
    python -m training run data/photos --seed $seed --output artifacts/photos-$seed
done
python -m benchmarks.seeds artifacts/photos-? --output benchmarks/results/photos.json
"""

import dataclasses
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.measurement.figures import show_figures

METRICS = ("mAP@0.5", "mAP@[.5:.95]")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Read the cards of finished outputs; print and write mAP of each, mean and deviation."""

    outputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `training run` finished, of the same photos."""
    output: Path | None = None
    """JSON file to write the figures to."""


def summarise(cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the cards of the int8 artifacts, which tell float32's metrics too.

    Raises:
        ValueError: they are of other photos, or two of one seed.
    """
    if len({card["data_fingerprint"] for card in cards}) > 1:
        raise ValueError("the outputs are of different photos")
    seeds = [card["settings"]["seed"] for card in cards]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"each output must have a seed of its own, found {seeds}")
    first = cards[0]
    return {
        "preset": first["preset"],
        "input_size": first["input_size"],
        "steps": first["step"],
        "photos of val": first["metrics"]["images"],
        "seeds": seeds,
        "float32": spread_metrics([card["metrics_float32"] for card in cards]),
        "int8": spread_metrics([card["metrics"] for card in cards]),
    }


def spread_metrics(metrics: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Each figure of the seeds, their mean and deviation, by name."""
    found = {}
    for name in METRICS:
        values = [round(each[name], 4) for each in metrics]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        found[name] = {
            "each": values,
            "mean": round(statistics.mean(values), 4),
            "deviation": round(deviation, 4),
        }
    return found


def main(settings: Settings) -> int:
    """Print the figures, and write them where they are wanted."""
    cards = [json.loads((path / "int8" / "card.json").read_text()) for path in settings.outputs]
    show_figures(summarise(cards), settings.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
