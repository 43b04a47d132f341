"""`training train`: a custom loop under whatever tf.distribute strategy the machine offers.

One device: no strategy. Several GPUs: MirroredStrategy. TF_CONFIG in the environment:
MultiWorkerMirroredStrategy. The loop is the same; the loss is divided by the number of matches of
the global batch and batch normalisation is synchronised, so N replicas give the numbers of one.
"""

import dataclasses
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import keras
import tensorflow as tf
import tyro

from training import (
    checkpoints,
    fit,
    run_folder,
    strategy,
)
from training.data import records
from training.data.trained_on import NOTHING
from training.errors import TrainingError
from training.network.presets import (
    PRESETS,
    Preset,
    PresetName,
    Widths,
)
from training.precision import Precision
from training.trainer import Trainer


def _of_preset(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the preset's)")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Train a detector. The same command again continues an interrupted run, and with more --epochs
    extends it."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote, with a train split and, to watch mAP, a val split."""
    output: Path
    """Run folder: checkpoints, TensorBoard scalars, metrics."""
    preset: PresetName = "ssd_compact"
    """ssd_compact trains on a CPU; ssd300_vgg16 is the paper's SSD300 and wants GPUs."""
    default_boxes: Annotated[Path | None, _of_preset("FILE")] = None
    """Default boxes that `training fit` fitted to the data."""
    start_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Run folder whose weights this run starts from: a pretraining, the model so far, or what
    `training prune` made of it, whose narrower layers this run then has too."""
    imagenet_weights: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")
    ] = None
    """Keras' file of VGG-16's ImageNet weights, for ssd300_vgg16 to start from."""
    train_split: str = "train"
    """Split to train on. Where it has photos of val, the figure on val is not called mAP."""
    epochs: Annotated[int | None, _of_preset("INT")] = None
    """Passes over the training data. More than a run was given extend it, complete or not: its
    learning rate is then that of the longer run's cosine, so a complete run's rises once more."""
    batch_size: Annotated[int | None, _of_preset("INT")] = None
    """Images a step over all devices."""
    learning_rate: Annotated[float | None, _of_preset("FLOAT")] = None
    """Peak learning rate; the preset's is scaled with the batch size."""
    warmup_epochs: float = 3.0
    """Epochs over which the learning rate rises from 0; then it falls along a cosine."""
    clip_norm: float = 0.0
    """Largest norm of the gradient over all weights and devices; 0 is any."""
    average_decay: float = 0.999
    """Decay a step of the moving average of the weights, which is what evaluate and export use; it
    grows to this from 0.1, so that the average never spans more than a ninth of the run; 0 is
    off."""
    precision: Precision = "float32"
    """What the network computes in while it trains. bfloat16 is faster on GPUs and on CPUs with
    AVX-512 BF16 or AMX, float16 on GPUs only."""
    xla: bool = False
    """Compile the forward and backward pass with XLA; for one GPU, slow on CPUs."""
    photometric: bool = True
    """Distort brightness, contrast and colours; leave it out for photos that all come from one
    camera under one light, whose colours tell the classes apart."""
    vertical_flip: bool = False
    """Also mirror top and bottom: for images without an up and down."""
    seed: int = 0
    """Fixes initial weights, order and augmentation."""
    evaluate_every: int = 10
    """Epochs between two mAP figures on the val split; 0 is never."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints."""
    logical_cpus: int = 1
    """Split the CPU into this many devices, to try several replicas without GPUs."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The settings with the preset's defaults filled in, in steps.

    An epoch is one pass over the images. Where the batch size does not divide their number, a step
    may hold the end of one epoch and the start of the next; no image is left out or repeated.
    """

    images: int  # in an epoch
    batch_size: int  # images, global
    total_steps: int
    warmup_steps: int
    learning_rate: float

    def epoch(self, step: int) -> int:
        """How many epochs are complete after so many steps."""
        return step * self.batch_size // self.images

    def completes(self, epochs: int, step: int) -> bool:
        """Whether this step completes another so many epochs; 0 is never."""
        return epochs > 0 and self.epoch(step) // epochs > self.epoch(step - 1) // epochs


def run(settings: TrainSettings) -> int:
    preset = dataclasses.replace(PRESETS[settings.preset], photometric=settings.photometric)
    if settings.default_boxes:
        preset = fit.load(settings.default_boxes, preset)
    preset = dataclasses.replace(preset, widths=_widths(settings))
    try:
        train(settings, preset)
    except strategy.WorkerLostError as error:
        # TensorFlow would wait for the lost worker when the interpreter ends, and may abort it.
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)
    return 0


def _widths(settings: TrainSettings) -> Widths:
    """Those of the run that this one continues, or of the one it starts from."""
    if (settings.output / "run.json").exists():
        source: Path | None = settings.output
    else:
        source = settings.start_from
    return run_folder.preset_from(run_folder.read_description(source)).widths if source else ()


def train(settings: TrainSettings, preset: Preset) -> None:
    """One run from its start, or from its newest checkpoint, to its end.

    Args:
        settings: `settings.preset` is only a name here.
        preset: what is trained, one of PRESETS or a variant of one.

    Raises:
        TrainingError: settings out of range, records or run folder of something else.
    """
    manifest = records.load_manifest(settings.records, settings.train_split)
    schedule = plan(settings, preset, manifest.count)
    devices = strategy.choose(settings.logical_cpus)
    _check_devices(settings, schedule, devices.num_replicas_in_sync)
    if strategy.is_chief(devices):
        _open_run(settings, preset, manifest)
    print(
        f"{preset.name}, {manifest.count} images, {schedule.total_steps} steps of "
        f"{schedule.batch_size} on {strategy.describe(devices)}",
        flush=True,
    )
    Trainer(settings, preset, schedule, manifest, devices).train()


def _check_devices(settings: TrainSettings, schedule: Schedule, count: int) -> None:
    if schedule.batch_size % count:
        raise TrainingError(
            f"--batch-size must be a multiple of the {count} devices, got {schedule.batch_size}"
        )
    if settings.xla and count > 1:
        raise TrainingError(
            f"--xla is for one device, got {count}: what the devices tell each other within a "
            "step cannot be compiled. Leave it out"
        )


def plan(settings: TrainSettings, preset: Preset, images: int) -> Schedule:
    """The steps of a run over so many images.

    Raises:
        TrainingError: a setting is out of its range.
    """
    _check_ranges(settings)
    batch_size = settings.batch_size or preset.batch_size
    epochs = settings.epochs or preset.epochs
    warmup_epochs = min(settings.warmup_epochs, epochs / 2)
    return Schedule(
        images,
        batch_size,
        math.ceil(epochs * images / batch_size),
        round(warmup_epochs * images / batch_size),
        settings.learning_rate or preset.learning_rate * batch_size / preset.batch_size,
    )


def _check_ranges(settings: TrainSettings) -> None:
    positive = ("epochs", "batch_size", "learning_rate", "checkpoint_every", "logical_cpus")
    least = dict.fromkeys(positive, 1) | {"learning_rate": 1e-12}
    least |= {"warmup_epochs": 0, "evaluate_every": 0, "clip_norm": 0, "seed": 0}
    for name, minimum in least.items():
        value = getattr(settings, name)
        if value is not None and not minimum <= value < math.inf:
            expected = "more than 0" if name == "learning_rate" else f"{minimum} or more"
            raise TrainingError(f"--{name.replace('_', '-')} must be {expected}, got {value}")
    if not 0 <= settings.average_decay < 1:
        raise TrainingError(
            f"--average-decay must be 0 or more and below 1, got {settings.average_decay}"
        )


def _open_run(settings: TrainSettings, preset: Preset, manifest: records.Manifest) -> None:
    """Writes run.json, or checks that an existing run is this one."""
    begun = (settings.output / "run.json").exists()
    source = None if begun else settings.start_from  # which may have moved since
    before = run_folder.trained_on(source) if source else NOTHING
    description = {
        "settings": _plain(settings),
        "preset": dataclasses.asdict(preset),
        "labels": list(manifest.labels),
        "fingerprint": manifest.fingerprint,
        "trained_on": before.also(manifest).to_dict(),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    if begun:
        _continue_run(settings.output, description)
    else:
        settings.output.mkdir(parents=True, exist_ok=True)
        run_folder.write_json(settings.output / "run.json", description)


def _plain(settings: TrainSettings) -> dict[str, Any]:
    items = dataclasses.asdict(settings).items()
    return {key: str(value) if isinstance(value, Path) else value for key, value in items}


def _continue_run(output: Path, description: dict[str, Any]) -> None:
    """Checks that an existing run is this one; more epochs than it was given become its own."""
    before = run_folder.read_description(output)
    _check_same_run(output, before, description)
    for name in ("start_from", "imagenet_weights"):
        given = description["settings"][name]
        if given not in (None, before["settings"].get(name)):
            print(f"{output} has begun already: --{name.replace('_', '-')} {given} is not read")
    was, now = (_resolved(each)["epochs"] for each in (before, description))
    if now > was:
        newest = checkpoints.newest_whole(output / "checkpoints")
        step = checkpoints.step_of(newest) if newest else 0
        print(f"extending {output} from {was} to {now} epochs")
        before["settings"]["epochs"] = now
        extended = [*before.get("extended", []), {"epochs": was, "at_step": step}]
        run_folder.write_json(output / "run.json", before | {"extended": extended})


def _resolved(description: dict[str, Any]) -> dict[str, Any]:
    """A run's settings, the preset's where none were given."""
    settings, preset = description["settings"], description["preset"]
    batch_size = settings["batch_size"] or preset["batch_size"]
    scaled = preset["learning_rate"] * batch_size / preset["batch_size"]
    return settings | {
        "epochs": settings["epochs"] or preset["epochs"],
        "batch_size": batch_size,
        "learning_rate": settings["learning_rate"] or scaled,
    }


def _check_same_run(output: Path, before: dict[str, Any], description: dict[str, Any]) -> None:
    if "pruned" in before:
        raise TrainingError(
            f"{output} holds what `training prune` wrote: train it into another folder, "
            f"with --start-from {shlex.quote(str(output))}"
        )
    movable = (
        "records",
        "output",
        "default_boxes",
        "start_from",
        "imagenet_weights",
        "xla",
        "logical_cpus",
        "evaluate_every",
        "checkpoint_every",
    )
    were, are = _resolved(before), _resolved(description)
    changed = [
        f"--{key.replace('_', '-')} (was {were.get(key)!r}, now {value!r})"
        for key, value in are.items()
        if key not in movable
        and were.get(key) != value
        and not (key == "epochs" and value > were[key])
    ]
    wanted = run_folder.preset_from(description)
    changed += [
        f"the preset's {field} (was {was!r}, now {now!r})"
        for field, was, now in _differences(run_folder.preset_from(before), wanted)
    ]
    if before["labels"] != description["labels"]:
        labels = (", ".join(each["labels"]) for each in (before, description))
        changed.append("the labels (were {}, now {})".format(*labels))
    elif before["fingerprint"] != description["fingerprint"]:
        changed.append("the data")
    if changed:
        raise TrainingError(
            f"{output} holds a run with other settings: {'; '.join(changed)}. "
            "Give the same settings to continue it, or another --output"
        )


def _differences(one: Preset, other: Preset) -> list[tuple[str, Any, Any]]:
    names = [field.name for field in dataclasses.fields(Preset)]
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]
