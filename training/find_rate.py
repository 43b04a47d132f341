"""`training find-rate`: which learning rate to train with, in a hundred steps.

The rate grows while the loss is watched: it falls, then grows itself once the rate is too high
(Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, section 3.3; there
the rate grows linearly and accuracy is watched, here it grows by the same factor each step, for
nobody knows the decade). Nothing is written but the picture.

What is watched is the loss of the same images after each step, so that no hard batch is taken for a
high rate. For the quality focal loss it is that of the plain focal loss: the quality's targets, and
what a box counts, grow as the network learns, and so does that loss with what is learned.
"""

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
import tyro
from tqdm import tqdm

from training import disk, strategy, train
from training.data import records, tiles
from training.errors import TrainingError
from training.evaluation.plots import plot_rates
from training.input.rare_classes import plan_rarity
from training.network.loss import multibox_loss
from training.pretrained import check_pretrained
from training.schedule import Schedule, plan_schedule
from training.settings import TrainSettings
from training.trainer import Trainer

_SMOOTHING = 0.8  # the share of the old in the moving average of the losses
_DIVERGED = 4.0  # times the lowest smoothed loss so far
_BELOW_LOWEST = 10.0  # so far below the rate of the lowest loss is what is suggested
FEWEST_STEPS = 20
_UNUSED = tyro.conf.Suppress


@dataclasses.dataclass(frozen=True)
class FindRateSettings(TrainSettings):
    """Find a learning rate: grow it from step to step, watch the loss, and stop where that
    diverges. Takes what `train` takes that bears on it, --config FILE too."""

    output: Path
    """Picture of the loss over the learning rate, a .png file; replaces an older one."""
    _: dataclasses.KW_ONLY
    steps: int = 100
    """Steps from the lowest rate to the highest."""
    lowest: float = 1e-5
    """Learning rate of the first step."""
    highest: float = 1.0
    """Learning rate of the last step, unless the loss diverges before."""
    learning_rate: Annotated[float | None, _UNUSED] = None
    epochs: Annotated[int | None, _UNUSED] = None
    stop_early: Annotated[int, _UNUSED] = 0
    warmup_epochs: Annotated[float | None, _UNUSED] = None
    average_decay: Annotated[float, _UNUSED] = 0.0
    evaluate_every: Annotated[int | None, _UNUSED] = 0
    checkpoint_every: Annotated[int | None, _UNUSED] = None
    mlflow: Annotated[str | None, _UNUSED] = None


@dataclasses.dataclass(frozen=True)
class _Rising(Schedule):
    """A rate that grows by the same factor each step, from `learning_rate`."""

    factor: float

    def rates(self, final_rate: float) -> keras.optimizers.schedules.LearningRateSchedule:
        """The rate at each step; what is final in a run has no meaning here."""
        return keras.optimizers.schedules.ExponentialDecay(self.learning_rate, 1, self.factor)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the loss did: rates and losses of each step, [N].

    losses: the last one may be no number.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smoothed(self) -> np.ndarray:
        """A moving average of the losses, unbiased at its start; [N]."""
        average, found = 0.0, []
        for step, loss in enumerate(self.losses, start=1):
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            found.append(average / (1 - _SMOOTHING**step))
        return np.array(found)

    @property
    def has_diverged(self) -> bool:
        """Whether the loss is no number, or so far above its lowest."""
        smoothed = self.smoothed
        return not math.isfinite(smoothed[-1]) or smoothed[-1] > _DIVERGED * smoothed.min()

    @property
    def lowest_at(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return float(self.rates[int(np.nanargmin(self.smoothed))])

    @property
    def suggested(self) -> float:
        """A rate well below where the loss stops falling, two digits."""
        return float(f"{self.lowest_at / _BELOW_LOWEST:.1e}")


def find_rate(settings: FindRateSettings) -> int:
    """Draw the loss over the learning rate, and suggest one.

    Raises:
        TrainingError: a setting is out of range; the loss is no number from the first steps on.
    """
    _check_settings(settings)
    settings = train.settle_precision(settings)
    preset = train.choose_preset(settings)
    check_pretrained(settings, preset)
    manifest = records.load_manifest(settings.records, settings.train_split)
    tiles.check_tile(manifest.tile, preset.input_size)
    rarity = plan_rarity(manifest, settings.repeat_rare, settings.weigh_rare)
    usual = plan_schedule(settings, preset, manifest.count)
    factor = (settings.highest / settings.lowest) ** (1 / (settings.steps - 1))
    rising = _Rising(
        usual.images, usual.batch_size, settings.steps, 0, settings.lowest, factor=factor
    )
    devices = strategy.choose_devices(settings.logical_cpus)
    train.check_devices(settings, rising, devices.num_replicas_in_sync)
    print(
        f"{preset.name}, {manifest.count} images, up to {settings.steps} steps of "
        f"{rising.batch_size} on {strategy.describe_devices(devices)}, {settings.precision}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="training-find-rate-") as nowhere:
        quiet = dataclasses.replace(
            settings, output=Path(nowhere) / "run", average_decay=0.0, evaluate_every=0
        )
        trainer = Trainer(quiet, preset, rising, manifest, devices, rarity)
        found = _sweep(trainer, rising)
    _tell(settings, found, usual.learning_rate)
    return 0


class _Yardstick:
    """The loss of the first images, whatever the network has learned of others meanwhile."""

    def __init__(self, trainer: Trainer) -> None:
        self.network, self.boxes = trainer.network, trainer.default_boxes
        self.preset = trainer.preset
        local = trainer.strategy.experimental_local_results
        self.batch = [local(part)[0] for part in next(iter(trainer.batches()))[:3]]

    @tf.function
    def measure(self) -> tf.Tensor:
        """A float32 scalar."""
        images, offsets, targets = self.batch
        outputs = self.network(images, training=True)
        logits, preset = outputs["logits"], self.preset
        if not preset.has_background:
            logits = tf.concat([tf.zeros_like(logits[..., :1]), logits], axis=-1)
            preset = dataclasses.replace(preset, class_loss="focal")
        found = multibox_loss(outputs["offsets"], logits, offsets, targets, self.boxes, preset)
        localisation, classification, matches = map(tf.reduce_sum, found)
        return (localisation + classification) / tf.maximum(matches, 1.0)


def _check_settings(settings: FindRateSettings) -> None:
    if strategy.in_cluster():
        raise TrainingError(
            "`training find-rate` is for one machine, and TF_CONFIG in the environment names "
            "several"
        )
    if settings.output.suffix.lower() != ".png" or settings.output.is_dir():
        raise TrainingError(f"--output must name a .png file, got {settings.output}")
    if not settings.output.parent.is_dir():
        raise TrainingError(
            f"--output {settings.output}: there is no folder {settings.output.parent}"
        )
    if settings.steps < FEWEST_STEPS:
        raise TrainingError(f"--steps must be {FEWEST_STEPS} or more, got {settings.steps}")
    if not 0 < settings.lowest < settings.highest < math.inf:
        raise TrainingError(
            "--lowest must be above 0 and below --highest, got "
            f"{settings.lowest:g} and {settings.highest:g}"
        )


def _sweep(trainer: Trainer, rising: _Rising) -> Sweep:
    """Train until the loss diverges or the steps are done."""
    found, yardstick = Sweep(np.zeros(0), np.zeros(0)), _Yardstick(trainer)
    batches = iter(trainer.batches())
    for step in tqdm(range(rising.total_steps), unit="step", disable=None, leave=False):
        finite = math.isfinite(trainer.train_step(next(batches))["loss"])
        loss = float(yardstick.measure()) if finite else math.nan
        rate = rising.learning_rate * rising.factor**step
        found = Sweep(np.append(found.rates, rate), np.append(found.losses, loss))
        if found.has_diverged:
            break
    return found


def _tell(settings: FindRateSettings, found: Sweep, usual: float) -> None:
    done = len(found.rates)
    if done < FEWEST_STEPS:
        raise TrainingError(
            f"the loss diverges at step {done} already, at a learning rate of "
            f"{found.rates[-1]:.2g}: begin with a lower one than --lowest {settings.lowest:g}"
        )
    disk.write_file(
        settings.output, plot_rates(found.rates, found.losses, found.smoothed, found.suggested)
    )
    end = f"diverged at {found.rates[-1]:.2g}" if found.has_diverged else "has not diverged"
    print(
        f"{done} steps: the loss is lowest at a learning rate of {found.lowest_at:.2g}, and {end}"
    )
    if found.lowest_at == found.rates[-1]:
        print(f"it falls to the end: try a higher one than --highest {settings.highest:g}")
    print(f"suggested: --learning-rate {found.suggested:g} (a tenth of that; without it {usual:g})")
    print(f"picture: {settings.output}")
