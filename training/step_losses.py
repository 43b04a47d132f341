"""The losses of the steps since somebody last looked, and what a spoilt one came from."""

import math

import numpy as np
import tensorflow as tf

from training import run_folder, strategy
from training.errors import TrainingError
from training.schedule import Schedule
from training.settings import TrainSettings


class StepLosses:
    """Losses that stay on the devices until they are read, for to read is to wait."""

    def __init__(
        self, devices: tf.distribute.Strategy, settings: TrainSettings, schedule: Schedule
    ) -> None:
        self.devices, self.settings, self.schedule = devices, settings, schedule
        self.recent: list[tuple[int, tf.Tensor, dict[str, tf.Tensor]]] = []

    def add(self, step: int, image_ids: tf.Tensor, losses: dict[str, tf.Tensor]) -> None:
        """Keep what `Trainer.train_step` gave for these images."""
        self.recent.append((step, image_ids, losses))

    def check(self) -> None:
        """Read what was not read yet, if there is any.

        Raises:
            TrainingError: a loss is no number.
        """
        if self.recent:
            self.read()

    def read(self) -> dict[str, float]:
        """The losses of the last step.

        Raises:
            TrainingError: those of a step since the last time are no numbers.
        """
        for step, image_ids, losses in self.recent:
            values = {k: float(v) for k, v in losses.items() if k != "finite"}
            if not all(map(math.isfinite, values.values())):
                raise TrainingError(self._spoilt(step, image_ids, losses["finite"]))
        self.recent.clear()
        return values

    def _spoilt(self, step: int, image_ids: tf.Tensor, finite: tf.Tensor) -> str:
        """What to say of a loss that is no number; of several machines each names its images."""
        names, good = (self._of_all_replicas(x) for x in (image_ids, finite))
        bad = [name.decode() for name, is_good in zip(names, good, strict=True) if not is_good]
        remedy = "look at their annotations"
        if not bad and strategy.in_cluster():
            bad, remedy = ["of another worker"], "which names them"
        elif len(bad) in (0, len(names)):  # it was not an image
            bad = [name.decode() for name in names]
            remedy = (
                f"lower --learning-rate (now {self.schedule.learning_rate:g}), lengthen "
                "--warmup-epochs or set --clip-norm"
            )
            if self.settings.precision == "float16":
                remedy += ", or take --precision bfloat16, whose range is larger"
        return (
            f"the loss is no finite number from step {step} on, with the images "
            f"{', '.join(bad)}: {remedy}. {run_folder.last_checkpoint_text(self.settings.output)}"
        )

    def _of_all_replicas(self, values: tf.Tensor) -> np.ndarray:
        return np.concatenate([x.numpy() for x in self.devices.experimental_local_results(values)])
