"""What a training run is told."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import tyro

from training.errors import TrainingError
from training.network.mixed_precision import NumberType
from training.network.presets import PresetName, Resize

EVALUATIONS, CHECKPOINTS = 8, 50  # of a run, unless its settings say otherwise


def of_preset(metavar: str) -> Any:
    """An option that, left out, is as the preset has it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the preset's)")


def _in_parts(count: int) -> Any:
    return tyro.conf.arg(metavar="INT", help_behavior_hint=f"(default: {count} times a run)")


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """What `train` is told, and so is the one command that does everything."""

    _: dataclasses.KW_ONLY
    preset: PresetName = "ssd_lite0"
    """ssd_lite0 starts from ImageNet and is for photos of anything, ssd_mobilenet_v2 likewise;
    ssd_compact_atss is the smallest, made for microscopy; ssd_compact is its network with the
    paper's boxes, matching and loss; ssd300_vgg16 is the paper's SSD300 and wants
    GPUs."""
    input_size: Annotated[int | None, of_preset("INT")] = None
    """Side of the square that the network sees, pixels: a multiple of 32, such as 320, 416 or 512.
    More finds smaller objects, and takes time with its square."""
    resize: Annotated[Resize | None, of_preset("stretch|letterbox")] = None
    """stretch pulls a photo to that square whatever its shape, letterbox keeps its shape and fills
    up with grey."""
    pretrained: Annotated[str | None, of_preset("imagenet|FILE|RUN|none")] = None
    """What the weights start from. imagenet: those that the `training` extra brings for ssd_lite0,
    and that Keras downloads for ssd_mobilenet_v2. FILE: a copy of these, or Keras' file of VGG-16
    for ssd300_vgg16. RUN: the run folder of a pretraining, of the model so far, or of what
    `training prune` made of it, whose narrower layers this run then has too. none: random
    weights."""
    freeze: Annotated[int | None, of_preset("STRIDE")] = None
    """Leave the backbone of ssd_lite0 or ssd_mobilenet_v2 as it is up to the map of this stride, 2
    to 32, with the statistics of its batch normalisation; 0 trains all of it."""
    epochs: Annotated[int | None, of_preset("INT")] = None
    """Passes over the training data; none given: the preset's number of steps, or of epochs where
    that is more. More than a run was given extend it, complete or not: its learning rate is then
    that of the longer run's cosine, so a complete run's rises once more."""
    stop_early: int = 0
    """End a run after so many evaluations that were no better on val than the best before them;
    0 is never. The learning rate falls to the end of a run, where it gains most."""
    photometric: bool = True
    """Distort brightness, contrast and colours; leave it out for photos that all come from one
    camera under one light, whose colours tell the classes apart."""
    vertical_flip: bool = False
    """Also mirror top and bottom: for images without an up and down."""
    repeat_rare: float = 0.0
    """Share of the photos, 0 to 1: of classes that fewer show, the photos come more often, by
    sqrt(share / theirs); the run stays as long. 0 does not."""
    weigh_rare: float = 0.0
    """Power, 0 to 1: an object counts in the class loss as one over its class's objects to this
    power; 1 makes all classes count alike, 0 all objects."""
    seed: int = 0
    """Fixes initial weights, order and augmentation."""


@dataclasses.dataclass(frozen=True)
class TrainSettings(RecipeSettings):
    """Train a detector. The same command again continues an interrupted run, and with more --epochs
    extends it. With --config FILE, what is not given here is as in that JSON file: settings by
    their names, such as {"batch_size": 16}, or the run.json of a run."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote, with a train split and, to watch mAP, a val split."""
    output: Path
    """Run folder: checkpoints, TensorBoard scalars, metrics."""
    default_boxes: Annotated[Path | None, of_preset("FILE")] = None
    """Default boxes that `training fit` fitted to the data."""
    train_split: str = "train"
    """Split to train on. Where it has photos of val, the figure on val is not called mAP."""
    batch_size: Annotated[int | None, of_preset("INT")] = None
    """Images a step over all devices."""
    learning_rate: Annotated[float | None, of_preset("FLOAT")] = None
    """Peak learning rate; the preset's is scaled with the batch size."""
    warmup_epochs: Annotated[float | None, of_preset("FLOAT")] = None
    """Epochs over which the learning rate rises from 0; then it falls along a cosine."""
    clip_norm: float = 0.0
    """Largest norm of the gradient over all weights and devices; 0 is any."""
    average_decay: float = 0.999
    """Decay a step of the moving average of the weights, which is what evaluate and export use; it
    grows to this from 0.1, so that the average never spans more than a ninth of the run; 0 is
    off."""
    precision: NumberType = "auto"
    """What the network computes in while it trains; auto: float16 on GPUs, bfloat16 on CPUs with
    AVX-512 BF16 or AMX where that is faster (ssd_compact), else float32; a run that has begun stays
    with what it began in."""
    xla: bool = False
    """Compile the forward and backward pass with XLA; for one GPU, slow on CPUs."""
    evaluate_every: Annotated[int | None, _in_parts(EVALUATIONS)] = None
    """Epochs between two mAP figures on the val split; 0 is never."""
    checkpoint_every: Annotated[int | None, _in_parts(CHECKPOINTS)] = None
    """Epochs between two checkpoints."""
    mlflow: Annotated[str | None, tyro.conf.arg(metavar="URI|FOLDER", help_behavior_hint="")] = None
    """Tell MLflow, too, of the run: settings, figures, report. An address such as
    http://127.0.0.1:5000, or a folder; needs the extra `mlflow`."""
    logical_cpus: int = 1
    """Split the CPU into this many devices, to try several replicas without GPUs."""


def check_ranges(settings: TrainSettings) -> None:
    """Refuse a setting out of its range.

    Raises:
        TrainingError: there is one.
    """
    positive = ("epochs", "batch_size", "learning_rate", "checkpoint_every", "logical_cpus")
    least = dict.fromkeys(positive, 1) | {"learning_rate": 1e-12}
    least |= dict.fromkeys(
        ("warmup_epochs", "evaluate_every", "clip_norm", "seed", "stop_early"), 0
    )
    for name, minimum in least.items():
        value = getattr(settings, name)
        if value is not None and not minimum <= value < math.inf:
            expected = "more than 0" if name == "learning_rate" else f"{minimum} or more"
            raise TrainingError(f"--{name.replace('_', '-')} must be {expected}, got {value}")
    for name in ("repeat_rare", "weigh_rare"):
        if not 0 <= (value := getattr(settings, name)) <= 1:
            raise TrainingError(f"--{name.replace('_', '-')} must be 0 to 1, got {value}")
    if not 0 <= settings.average_decay < 1:
        raise TrainingError(
            f"--average-decay must be 0 or more and below 1, got {settings.average_decay}"
        )
