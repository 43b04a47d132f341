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
    may hold the end of one epoch and the start of the next; no image is left out or repeated,
    but for what --repeat-rare does.
    """

    images: int  # in an epoch
    batch_size: int  # images, global
    total_steps: int
    warmup_steps: int
    learning_rate: float

    def epoch(self, step: int) -> int:
        """How many epochs are complete after so many steps."""
        return step * self.batch_size // self.images

    def completes(self, epochs: int | None, parts: int, step: int) -> bool:
        """Whether this step completes another so many epochs, 0 is never; or, where no number is
        given, another of so many equal parts of the run."""
        if epochs is None:
            return step * parts // self.total_steps > (step - 1) * parts // self.total_steps
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


def count_steps(preset: Preset, images: int, batch_size: int, epochs: int | None) -> int:
    """How many steps so many epochs are; without a number the preset says how long a run is."""
    steps = math.ceil((epochs or preset.epochs) * images / batch_size)
    return steps if epochs else max(steps, math.ceil(preset.steps * preset.batch_size / batch_size))


def plan_schedule(settings: TrainSettings, preset: Preset, images: int) -> Schedule:
    """The steps of a run over so many images.

    Raises:
        TrainingError: a setting is out of its range.
    """
    check_ranges(settings)
    batch_size = settings.batch_size or preset.batch_size
    total_steps = count_steps(preset, images, batch_size, settings.epochs)
    warmup_steps = preset.warmup * total_steps
    if settings.warmup_epochs is not None:
        warmup_steps = min(settings.warmup_epochs * images / batch_size, total_steps / 2)
    return Schedule(
        images,
        batch_size,
        total_steps,
        round(warmup_steps),
        settings.learning_rate or preset.learning_rate * batch_size / preset.batch_size,
    )
