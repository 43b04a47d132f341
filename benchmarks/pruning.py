"""Whether pruning pays: speed and mAP of pruned networks beside others that are as fast.

    python -m benchmarks.pruning data/records --default-boxes data/boxes.json \\
        --pretraining data/smears-records --output runs/pruning

Contestants, each trained with every seed, and all but the first for as many steps in total as a
network that was trained, pruned and trained on:

- the whole network, and the same trained on for as long as the pruned one;
- the whole network, pruned and trained on (`training prune`);
- the pruned widths, random weights: what do the weights that were taken over give?
  ("Rethinking the Value of Network Pruning", arXiv 1810.05270, asks this and answers: little.)
- all layers narrower by the same factor: what does choosing the widths give?

The last two have a pretraining of their own. Beside them stands what choosing the channels gives:
mAP before training on, by the loss's slope and by filters' norms, blocks of all layers weighed
together and the same share of each layer. It can be interrupted and started again: each contestant
is a run folder of `training train`. At the end all are exported, and ONNX Runtime with one thread
takes turns between them.
"""

import dataclasses
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import onnxruntime
import tyro

from benchmarks.measurement.race import race_networks
from training import prune, run_folder, train
from training.data import records
from training.errors import TrainingError
from training.evaluation import score
from training.evaluation.measure import detect_objects, detection_step, read_truth
from training.export import export
from training.fitted_boxes import load_fitted
from training.network import channels, model
from training.network.channels import Channels
from training.network.presets import SSD_COMPACT, Preset, Widths
from training.settings import TrainSettings

PRETRAINING_EPOCHS = 12
WHOLE, MORE, RANDOM, NARROW = (
    "whole",
    "not pruned, trained on",
    "the pruned widths, random weights",
    "all layers narrower",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train the compact preset whole, pruned and narrower, and compare mAP and speed."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote, with the splits train and val."""
    default_boxes: Path
    """File that `training fit` wrote."""
    pretraining: Path
    """Records of the rendered smears to pretrain on."""
    output: Path
    """Folder for the runs, the artifacts and pruning.json."""
    keep: float = 0.7
    """Share of the multiply-adds of the networks that are compared."""
    also: tuple[float, ...] = ()
    """Other shares to prune to, with the first seed only."""
    epochs: int = 50
    """Of each training; what is not pruned trains for twice as many, or twice."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of each training but the pretraining."""
    rounds: int = 1000
    """Turns of each network when speed is measured; 0 is no more than to train."""
    only: tuple[str, ...] = ()
    """Words in the names of the contestants to train; none given: all."""


def main(settings: Settings) -> None:
    for name, seed in contestants(settings):
        if not settings.only or any(word in name for word in settings.only):
            keras.backend.clear_session()
            print(f"\n{name}, seed {seed}", flush=True)
            _train(settings, name, seed)
    if settings.rounds:
        _report(settings)


def contestants(settings: Settings) -> list[tuple[str, int]]:
    """Names and seeds, in the order in which they need each other."""
    names = (WHOLE, _pruned(settings.keep), NARROW, RANDOM, MORE)
    first = [(name, settings.seeds[0]) for name in (*names, *map(_pruned, settings.also))]
    return first + [(name, seed) for seed in settings.seeds[1:] for name in names]


def _pruned(keep: float) -> str:
    return f"pruned to {keep:g}"


def _train(settings: Settings, name: str, seed: int) -> None:
    """One contestant: nothing where its run is complete."""
    preset, folder = _preset(settings), _folder(settings, name, seed)
    epochs, whole = settings.epochs, _folder(settings, WHOLE, seed)
    if name == WHOLE:
        _run(settings, preset, folder, epochs, seed, _pretrained(settings, preset, WHOLE))
    elif name == MORE:
        _run(settings, preset, folder, epochs, seed, whole)
    elif name in (RANDOM, NARROW):
        preset = dataclasses.replace(preset, widths=_widths(settings, name))
        start = _pretrained(settings, preset, name)
        _run(settings, preset, folder, 2 * epochs, seed, start)
    else:
        keep, start = float(name.split()[-1]), folder.with_name(f"{folder.name}-start")
        if not start.exists():
            prune.prune_run(prune.PruneSettings(whole, settings.records, start, keep))
        preset = run_folder.preset_from(run_folder.read_description(start))
        _run(settings, preset, folder, epochs, seed, start)


def _run(
    settings: Settings, preset: Preset, folder: Path, epochs: int, seed: int, start: Path
) -> None:
    options = _options(settings.records, folder, epochs)
    options = dataclasses.replace(options, pretrained=str(start), seed=seed, photometric=False)
    train.train_preset(options, dataclasses.replace(preset, photometric=False))


def _pretrained(settings: Settings, preset: Preset, name: str) -> Path:
    """The pretraining of a contestant, the same for all its seeds."""
    folder = settings.output / f"pretrained-{_slug(name)}"
    options = _options(settings.pretraining, folder, PRETRAINING_EPOCHS)
    train.train_preset(options, dataclasses.replace(preset, photometric=True))
    return folder


def _options(data: Path, folder: Path, epochs: int) -> TrainSettings:
    """What all trainings have in common: measured and kept at their end only."""
    return TrainSettings(
        data,
        folder,
        preset="ssd_compact",
        epochs=epochs,
        precision="bfloat16",
        vertical_flip=True,
        evaluate_every=epochs,
        checkpoint_every=epochs,
    )


def _preset(settings: Settings) -> Preset:
    return load_fitted(settings.default_boxes, SSD_COMPACT)


def _widths(settings: Settings, name: str) -> Widths:
    """Those that pruning with the first seed chose, or of layers that are all as much narrower."""
    if name == RANDOM:
        pruned = _folder(settings, _pruned(settings.keep), settings.seeds[0])
        return run_folder.preset_from(run_folder.read_description(pruned)).widths
    traced = channels.trace_channels(model.build_network(_preset(settings), 1))
    widths = _narrower(traced, settings.keep)
    return traced.of_layers({k: v for k, v in widths.items() if v < traced.widths[k]})


def _narrower(traced: Channels, keep: float) -> dict[str, int]:
    """All groups narrower by the same factor, in whole blocks."""
    for percent in range(100, 0, -1):
        widths = {k: _rounded(v * percent / 100) for k, v in traced.widths.items()}
        if traced.multiply_adds(widths) <= keep * traced.multiply_adds({}):
            break
    return widths


def _rounded(width: float) -> int:
    return max(prune.BLOCK, round(width / prune.BLOCK) * prune.BLOCK)


def _folder(settings: Settings, name: str, seed: int) -> Path:
    return settings.output / f"{_slug(name)}-{seed}"


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in name).split())


def _report(settings: Settings) -> None:
    """The table as markdown, and its figures as JSON beside the runs."""
    complete = [x for x in contestants(settings) if _is_complete(_folder(settings, *x))]
    names = list(dict.fromkeys(name for name, _ in complete))
    models = {name: _artifact(settings, name) / "model.onnx" for name in names}
    milliseconds = race_networks(models, settings.rounds)
    rows = {}
    for name in names:
        runs = [_folder(settings, name, seed) for other, seed in complete if other == name]
        metrics = [run_folder.read_json(run / "metrics.json", "mAP figures") for run in runs]
        rows[name] = {
            "million_multiply_adds": _multiply_adds(runs[0]) / 1e6,
            "widths": dict(run_folder.preset_from(run_folder.read_description(runs[0])).widths),
            "milliseconds": _quantiles(milliseconds[name]),
            "speed": _quantiles(
                [a / b for a, b in zip(milliseconds[WHOLE], milliseconds[name], strict=True)]
            ),
            "mAP@0.5": [m["mAP@0.5"] for m in metrics],
            "mAP@[.5:.95]": [m["mAP@[.5:.95]"] for m in metrics],
            "per_class": [m["per_class"] for m in metrics],
        }
    document = {
        "command": "python -m benchmarks.pruning data/records --default-boxes data/boxes.json "
        f"--pretraining data/smears-records --output runs/pruning --keep {settings.keep:g} "
        f"--epochs {settings.epochs} --rounds {settings.rounds}",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, one thread",
        "onnxruntime": onnxruntime.__version__,
        "epochs": settings.epochs,
        "seeds": settings.seeds,
        "rounds": settings.rounds,
        "networks": rows,
        "before_training_on": _before_training_on(settings),
    }
    (settings.output / "pruning.json").write_text(json.dumps(document, indent=1) + "\n")
    print(_table(rows))


def _before_training_on(settings: Settings) -> dict[str, dict[str, float]]:
    """mAP of the first seed's network, pruned in four ways."""
    whole = _folder(settings, WHOLE, settings.seeds[0])
    network, preset, labels = run_folder.load_network(whole)
    traced = channels.trace_channels(network)
    manifest = records.load_manifest(settings.records, "train")
    val = records.load_manifest(settings.records, "val")
    criteria = {
        "the loss's slope": prune.channel_importance(
            network, preset, traced, prune.measured_batches(preset, manifest, seed=0)
        ),
        "filters' L1 norms": _filter_norms(network, traced),
    }
    found = {}
    for name, scores in criteria.items():
        shares = {
            "layers weighed together": prune.choose_widths(traced, scores, settings.keep),
            "the same share of each layer": _narrower(traced, settings.keep),
        }
        for share, widths in shares.items():
            pruned, narrow = prune.prune_network(
                network, preset, len(labels), traced, scores, widths
            )
            step = detection_step(
                model.Detector(pruned, narrow), narrow.iou_threshold, narrow.voting_iou
            )
            detected = detect_objects(step, val, preset.input_size, preset.resize)
            metrics = score.score_detections(read_truth(val), detected, labels)
            found[f"{name}, {share}"] = {"mAP@0.5": metrics.map50, "mAP@[.5:.95]": metrics.map}
    return found


def _filter_norms(network: keras.Model, traced: Channels) -> dict[str, np.ndarray]:
    """Sums of absolute weights ("Pruning Filters for Efficient ConvNets", arXiv 1608.08710)."""
    norms = {group: np.zeros(width) for group, width in traced.widths.items()}
    for name in traced.costs:
        group = traced.ends[name].output
        if group:
            norms[group] += np.abs(network.get_layer(name).kernel).sum(axis=(0, 1, 2))
    return norms


def _is_complete(run: Path) -> bool:
    return (run / "report").exists()  # the last that a run writes


def _artifact(settings: Settings, name: str) -> Path:
    folder = settings.output / "artifacts" / _slug(name)
    if not folder.exists():
        export.export_run(export.ExportSettings(_folder(settings, name, settings.seeds[0]), folder))
    return folder


def _multiply_adds(run: Path) -> int:
    preset = run_folder.preset_from(run_folder.read_description(run))
    labels = run_folder.read_description(run)["labels"]
    return channels.trace_channels(model.build_network(preset, len(labels))).multiply_adds({})


def _quantiles(values: list[float]) -> dict[str, float]:
    tenths = statistics.quantiles(values, n=10)
    return {"median": statistics.median(values), "p10": tenths[0], "p90": tenths[-1]}


def _table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| | multiply-adds, millions | speed | mAP@0.5 | mAP@[.5:.95] | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        maps = (_spread(row[key]) for key in ("mAP@0.5", "mAP@[.5:.95]"))
        lines.append(
            f"| {name} | {row['million_multiply_adds']:.0f} | {row['speed']['median']:.2f} | "
            f"{' | '.join(maps)} | {len(row['mAP@0.5'])} |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except TrainingError as error:
        sys.exit(f"error: {error}")
