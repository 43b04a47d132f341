"""What repeat factors and class weights give classes that few photos show.

    python -m benchmarks.rare_classes data/bccd data/raccoon --work runs/rare \\
        --output benchmarks/results/rare_classes.json

Real photos are made long-tailed: of those in train that show a rare class all but a few are left
out, whole, so that no photo has an object without its box; each seed keeps others. val stays as it
is. All trainings of a seed have the same photos and the same number of steps. What was done before
in --work is not done again.
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import tyro

from benchmarks.measurement import machine
from benchmarks.seeds import METRICS, spread_metrics
from benchmarks.selection import NEVER, measure_run
from training import run_folder, train
from training.data import records_writer
from training.data.annotations import Dataset
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.network.presets import SSD_LITE0
from training.settings import TrainSettings


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train with and without what helps rare classes, and print and write what that gave."""

    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Annotated folders with the splits train and val, or whose val is held out."""
    work: Path
    """Folder for records and runs."""
    output: Path
    """JSON file to write."""
    rare: tuple[str, ...] = ("Platelets", "raccoon")
    """Classes that become rare."""
    keep: int = 8
    """Photos of train that show one of them, for each."""
    steps: int = 195
    """Of each training."""
    seeds: int = 3
    """How many times photos are chosen, and networks trained on them."""
    repeat: float = 0.5
    """As `training train --repeat-rare`."""
    weigh: float = 0.5
    """As `training train --weigh-rare`."""


def main(settings: Settings) -> None:
    """Train, print and write."""
    about = machine.describe_machine()
    data, val = Folders(FolderSettings(settings.photos)).datasets(("train", "val"))
    arms = _arms(settings)
    seeds = [_measure_seed(settings, seed, data, val) for seed in range(settings.seeds)]
    mean = {name: _summarise([seed["arms"][name] for seed in seeds]) for name in arms}
    found = {"machine": about, "preset": SSD_LITE0.name, "steps": settings.steps, "arms": arms}
    run_folder.write_json(settings.output, found | {"seeds": seeds, "mean": mean})
    print(_table(mean))


def _arms(settings: Settings) -> dict[str, dict[str, Any]]:
    """Settings of the trainings, by name."""
    repeat: dict[str, Any] = {"repeat_rare": settings.repeat}
    weigh: dict[str, Any] = {"weigh_rare": settings.weigh}
    return {
        "none": {},
        "repeat factors": repeat,
        "class weights": weigh,
        "both": repeat | weigh,
    }


def _measure_seed(settings: Settings, seed: int, data: Dataset, val: Dataset) -> dict[str, Any]:
    """Of one choice of photos, what there is in it, and the figures by arm."""
    folder = settings.work / f"seed-{seed}"
    chosen = make_long_tail(data, settings.rare, settings.keep, seed)
    if not (folder / "records/val.json").exists():
        records_writer.write_splits([chosen, val], folder / "records", max_side=1600)
    return {"train": _count(chosen), "val": _count(val)} | {
        "arms": {
            name: _train_once(settings, folder, name, seed, options)
            for name, options in _arms(settings).items()
        }
    }


def make_long_tail(data: Dataset, rare: Sequence[str], keep: int, seed: int) -> Dataset:
    """The photos without a rare class, and so many of those with each, drawn at random."""
    shown = collections.Counter[str]()
    kept = []
    for place in np.random.default_rng(seed).permutation(len(data.annotations)):
        labels = set(data.annotations[place].labels) & set(rare)
        if all(shown[label] < keep for label in labels):
            shown.update(labels)
            kept.append(place)
    return dataclasses.replace(
        data, annotations=tuple(data.annotations[place] for place in sorted(kept))
    )


def _count(data: Dataset) -> dict[str, dict[str, int]]:
    """Photos and objects, by class."""
    photos = collections.Counter(label for a in data.annotations for label in set(a.labels))
    objects = collections.Counter(label for a in data.annotations for label in a.labels)
    counts = {"photos": {"all": len(data.annotations)} | dict(sorted(photos.items()))}
    return counts | {"objects": dict(sorted(objects.items()))}


def _train_once(
    settings: Settings, folder: Path, name: str, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train one arm and measure it on val, or read what that gave before."""
    place = folder / name.replace(" ", "-")
    figures = place / "figures.json"
    if not figures.exists():
        print(f"\nseed {seed}: {name}", flush=True)
        keras.backend.clear_session()
        recipe = TrainSettings(
            folder / "records",
            place / "run",
            seed=seed,
            evaluate_every=0,
            checkpoint_every=NEVER,
        )
        preset = dataclasses.replace(SSD_LITE0, epochs=1, steps=settings.steps)
        train.train_preset(dataclasses.replace(recipe, **options), preset)
        run_folder.write_json(figures, measure_run(place / "run", folder / "records"))
    return run_folder.read_json(figures, "what a training gave")


def _summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation over the seeds, of all classes and of each."""
    per_class = {
        label: spread_metrics([row["per_class"][label] for row in rows])
        for label in rows[0]["per_class"]
    }
    return spread_metrics(rows) | {"per_class": per_class}


def _table(mean: dict[str, Any]) -> str:
    """Markdown: AP@0.5 of each class, and both mAPs."""
    labels = list(next(iter(mean.values()))["per_class"])
    lines = [f"| AP@0.5 | {' | '.join([*labels, *METRICS])} |", "|---" * (len(labels) + 3) + "|"]
    for name, each in mean.items():
        cells = [each["per_class"][label][METRICS[0]] for label in labels]
        cells += [each[metric] for metric in METRICS]
        texts = [f"{cell['mean']:.3f} ± {cell['deviation']:.3f}" for cell in cells]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Settings))
