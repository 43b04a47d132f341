"""How many steps a run takes, and its learning rate at each."""

import math
from dataclasses import dataclass

import keras

from training.network.presets import Preset
from training.settings import TrainSettings, check_ranges


@dataclass(frozen=True)
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

    def rates(self, final_rate: float) -> keras.optimizers.schedules.LearningRateSchedule:
        """The rate at each step: it rises over the warm-up, then falls along a cosine.

        final_rate: that of the last step, a share of the highest.
        """
        return keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, self.total_steps - self.warmup_steps),
            alpha=final_rate,
            warmup_target=self.learning_rate,
            warmup_steps=self.warmup_steps,
        )


def plan_schedule(settings: TrainSettings, preset: Preset, images: int) -> Schedule:
    """The steps of a run over so many images.

    Raises:
        TrainingError: a setting is out of its range.
    """
    check_ranges(settings)
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
