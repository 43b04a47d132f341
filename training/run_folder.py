"""A run folder: what `training train` writes and `evaluate` and `export` read.

run.json        settings, the whole preset, labels, data fingerprint, library versions
checkpoints/    network, its moving average, optimizer and schedule; the newest two
tensorboard/    scalars
metrics.json    mAP on the val split, after every evaluation
"""

import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from training import model
from training.errors import TrainingError
from training.presets import Preset


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(path)


def read_json(path: Path, expected: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise TrainingError(f"{path} does not exist: expected {expected}") from None
    except json.JSONDecodeError as error:
        raise TrainingError(f"{path} is not JSON ({error}): expected {expected}") from None


def read_description(run: Path) -> dict[str, Any]:
    return read_json(run / "run.json", "a folder that `training train --output` wrote")


def preset_from(description: dict[str, Any]) -> Preset:
    """The preset that run.json records, field by field.

    Raises:
        TrainingError: its fields are not those of this version's presets.
    """
    try:
        return Preset(**{k: _tuples(v) for k, v in description["preset"].items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"run.json records no preset of this version ({error!r}): evaluate and export with the "
            "version that trained it, or train into another folder"
        ) from None


def _tuples(value: Any) -> Any:
    """JSON's lists, however deep, as a frozen dataclass holds them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def load_network(run: Path) -> tuple[keras.Model, Preset, tuple[str, ...]]:
    """The network of a run, its preset and labels.

    Its weights are the moving average of the newest checkpoint, or that checkpoint's own where the
    run kept no average.
    """
    description = read_description(run)
    preset, labels = preset_from(description), tuple(description["labels"])
    newest = _newest_checkpoint(run)
    network = model.build(preset, len(labels))
    checkpoint = tf.train.Checkpoint(average=network)
    checkpoint.restore(newest).assert_existing_objects_matched().expect_partial()
    return network, preset, labels


def newest_step(run: Path) -> int:
    """The step at which the newest checkpoint was written."""
    return int(_newest_checkpoint(run).rpartition("-")[2])


def read_metrics(run: Path) -> dict[str, Any] | None:
    """mAP of the newest checkpoint's weights; None where those were not evaluated."""
    if not (run / "metrics.json").exists():
        return None
    metrics = read_json(run / "metrics.json", "mAP figures")
    return metrics if metrics.get("step") == newest_step(run) else None


def _newest_checkpoint(run: Path) -> str:
    newest = tf.train.latest_checkpoint(run / "checkpoints")
    if newest is None:
        raise TrainingError(f"{run / 'checkpoints'} holds no checkpoint yet: train first")
    return newest
