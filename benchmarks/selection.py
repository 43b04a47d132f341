"""What mAP labelling in the order of `training select` reaches, beside a random order.

    python -m benchmarks.selection data/bccd --pretrained runs/smears --work runs/selection \\
        --output benchmarks/results/selection.json --picture docs/images/selection.png

For each seed a few photos of train are labelled, drawn at random. The network that is trained on
them orders the others once, and chance does; networks are then trained on the first of each order,
all from the same weights and for the same number of steps, and measured on val. A budget is 0.7 of
the next one: where the order of `select` has reached what chance reaches one budget later, it saves
three photos of ten. What was done before in --work is not done again.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import tyro
from matplotlib.figure import Figure

from benchmarks.seeds import spread_metrics
from training import run_folder, train
from training.data import records, records_writer
from training.data.annotations import Annotation, Dataset
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.evaluation import measure, score
from training.labelling.select import SelectSettings, select_photos
from training.network.model import Detector
from training.network.presets import SSD_COMPACT_ATSS
from training.settings import TrainSettings

ORDERS = ("select", "random")
NEVER = 10**6  # epochs between two checkpoints: one at the end is enough


@dataclass(frozen=True)
class Settings:
    """Train on photos chosen both ways, and print and write what that gave."""

    photos: Annotated[Path, tyro.conf.Positional]
    """Annotated folder with the splits train and val."""
    work: Path
    """Folder for the runs."""
    output: Path
    """JSON file to write."""
    picture: Path
    """PNG to draw."""
    pretrained: str = "none"
    """Run folder that all trainings start from."""
    budgets: tuple[int, ...] = (30, 42, 60, 86)
    """How many photos are labelled; the first are the same for both orders."""
    steps: int = 160
    """Of each training."""
    seeds: int = 3
    """How many first sets are drawn."""


def main(settings: Settings) -> None:
    """Measure, print, write and draw."""
    folders = Folders(FolderSettings((settings.photos,)))
    data, val = folders.datasets(("train", "val"))
    seeds = [_measure_seed(settings, seed, data, val) for seed in range(settings.seeds)]
    found = {"steps": settings.steps, "budgets": settings.budgets, "seeds": seeds}
    found["mean"] = {name: _summarise(settings, seeds, name) for name in ORDERS}
    run_folder.write_json(settings.output, found)
    _draw(settings, found, settings.picture)
    print(json.dumps(found["mean"], indent=1))


def _measure_seed(settings: Settings, seed: int, data: Dataset, val: Dataset) -> dict[str, Any]:
    """The figures of each budget, by order."""
    order = np.random.default_rng(seed).permutation(len(data.annotations))
    by_chance = [data.annotations[place] for place in order[: settings.budgets[-1]]]
    rest = [data.annotations[place] for place in order[settings.budgets[0] :]]
    start = by_chance[: settings.budgets[0]]
    folder = settings.work / f"seed-{seed}"
    same: dict[str, Any] = {
        "seed": seed,
        "steps": settings.steps,
        "pretrained": settings.pretrained,
    }
    first = train_once(folder / "start", replace(data, annotations=tuple(start)), val, **same)
    ordered = {
        "select": start + _select(settings, folder, start, rest),
        "random": by_chance,
    }
    return {
        name: [first]
        + [
            train_once(
                folder / f"{name}-{budget}",
                replace(data, annotations=tuple(ordered[name][:budget])),
                val,
                **same,
            )
            for budget in settings.budgets[1:]
        ]
        for name in ORDERS
    }


def _select(
    settings: Settings, folder: Path, start: list[Annotation], rest: list[Annotation]
) -> list[Annotation]:
    """The photos of the rest that the network of the first ones wants labelled, in its order."""
    pool, labelled = folder / "pool", folder / "labelled"
    for place, photos in ((pool, rest), (labelled, start)):
        place.mkdir(exist_ok=True)
        for photo in photos:
            if not (link := place / photo.image_path.name).exists():
                os.link(photo.image_path, link)
    chosen, count = folder / "chosen", settings.budgets[-1] - len(start)
    if not chosen.exists():
        select_photos(
            SelectSettings(folder / "start/run", pool, chosen, count=count, labelled=labelled)
        )
    names = [path.name.split("-", 1)[1] for path in sorted((chosen / "JPEGImages").iterdir())]
    by_name = {photo.image_path.name: photo for photo in rest}
    return [by_name[name] for name in names]


def train_once(
    folder: Path, data: Dataset, val: Dataset, *, seed: int, steps: int, pretrained: str
) -> dict[str, Any]:
    """Train on some photos and measure on val, or read what that gave before."""
    figures = folder / "figures.json"
    if not figures.exists():
        print(f"{folder}: {len(data.annotations)} photos", flush=True)
        keras.backend.clear_session()
        if not (folder / "records/val.json").exists():
            records_writer.write_splits([data, val], folder / "records")
        recipe = TrainSettings(
            folder / "records",
            folder / "run",
            preset="ssd_compact_atss",
            pretrained=pretrained,
            seed=seed,
            precision="bfloat16",
            vertical_flip=True,
            evaluate_every=0,
            checkpoint_every=NEVER,
        )
        preset = replace(SSD_COMPACT_ATSS, photometric=False, epochs=1, steps=steps)
        train.train_preset(recipe, preset)
        run_folder.write_json(
            figures, measure_run(folder / "run", folder / "records") | _count(data)
        )
    return run_folder.read_json(figures, "what a training gave")


def measure_run(run: Path, data: Path) -> dict[str, Any]:
    """mAP of a run on the val split of some records."""
    network, preset, labels = run_folder.load_network(run)
    val = records.load_manifest(data, "val")
    step = measure.detection_step(
        Detector(network, preset), preset.iou_threshold, preset.voting_iou
    )
    detected = measure.detect_objects(step, val, preset.input_size, preset.resize)
    return score.score_detections(measure.read_truth(val), detected, labels).to_dict()


def _count(data: Dataset) -> dict[str, int]:
    boxes = sum(len(each.labels) for each in data.annotations)
    return {"photos": len(data.annotations), "boxes": boxes}


def _summarise(settings: Settings, seeds: list[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    """Mean and deviation over the seeds, a row a budget."""
    return [
        {"photos": budget, "boxes": [row["boxes"] for row in rows]} | spread_metrics(rows)
        for place, budget in enumerate(settings.budgets)
        for rows in [[seed[order][place] for seed in seeds]]
    ]


def _draw(settings: Settings, found: dict[str, Any], path: Path) -> None:
    """mAP over photos and over boxes, each seed's curve thin and their mean thick."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("mAP@0.5", "mAP@[.5:.95]"), strict=True):
        for order, colour in zip(ORDERS, ("#D55E00", "#0072B2"), strict=True):
            curves = _curves(found["seeds"], order, name)
            axes.plot(settings.budgets, curves.T, color=colour, lw=0.8, alpha=0.5)
            mean = curves.mean(axis=0)
            axes.plot(settings.budgets, mean, color=colour, lw=2.2, marker="o", label=order)
        axes.set(xlabel="photos labelled", ylabel=name, xticks=settings.budgets)
        axes.grid(alpha=0.2)
        axes.legend(loc="upper left")
    figure.savefig(path, dpi=110)


def _curves(seeds: Sequence[dict[str, Any]], order: str, name: str) -> np.ndarray:
    """[seeds, budgets]"""
    return np.array([[row[name] for row in seed[order]] for seed in seeds])


if __name__ == "__main__":
    main(tyro.cli(Settings))
