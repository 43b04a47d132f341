"""The weights that did best on val so far, in a run folder of their own: RUN/best.

`evaluate`, `export` and `--pretrained` take it as they take RUN, which stands for the last weights.
That it was chosen on val stands in its run.json, and so on the card: of several figures the highest
is a little too high.
"""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from training import checkpoints, run_folder
from training.schedule import Schedule
from training.settings import EVALUATIONS, TrainSettings

_FIGURE = "mAP@[.5:.95]"


class BestCheckpoint:
    """Keeps the averaged weights of the evaluation with the highest mAP@[.5:.95].

    Args:
        run: the run folder, where an earlier best may be.
        folder: where to write; of several workers only the chief's is the one in the run.
    """

    def __init__(self, run: Path, folder: Path, average: keras.Model) -> None:
        self.run, self.folder = run, folder
        self.checkpoint = tf.train.Checkpoint(average=average)
        self.metrics = read_best(run)

    def keep(self, metrics: dict[str, Any]) -> None:
        """Write what is measured now, with its step, unless an earlier one was as good."""
        if self.metrics and self.metrics[_FIGURE] >= metrics[_FIGURE]:
            return
        checkpoints.remove_newer(self.folder / "checkpoints", metrics["step"])
        checkpoints.save_checkpoint(
            self.checkpoint, self.folder / "checkpoints", metrics["step"], keep=1
        )
        description = run_folder.read_description(self.run) | {"chosen_on": "val"}
        run_folder.write_json(self.folder / "run.json", description)
        run_folder.write_json(self.folder / "metrics.json", metrics)
        self.metrics = metrics


def read_best(run: Path) -> dict[str, Any] | None:
    """The figures of the best weights of a run; None where there are none yet."""
    whole = (run / "best" / "metrics.json").exists()
    return run_folder.read_metrics(run / "best") if whole else None


def has_ceased(
    settings: TrainSettings, schedule: Schedule, best: dict[str, Any] | None, step: int
) -> bool:
    """Whether so many evaluations as --stop-early says were no better than the best."""
    if not settings.stop_early or not best:
        return False
    since = range(best["step"] + 1, step + 1)
    every = settings.evaluate_every
    measured = sum(schedule.completes(every, EVALUATIONS, each) for each in since)
    return measured >= settings.stop_early
