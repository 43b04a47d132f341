"""A run folder: what `training train` writes and `evaluate` and `export` read.

run.json        settings, the whole preset, labels, data fingerprint, library versions, and the
                photos that it is trained on
checkpoints/    network, its moving average, optimizer and schedule; see `checkpoints`
tensorboard/    scalars, detections on validation images, precision-recall curves
metrics.json    mAP on the val split, after every evaluation
best/           the run folder of the weights that did best there; see `best_checkpoint`
report/         curves, confusion matrix, the worst images; once the run is complete
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from training import checkpoints, disk, events
from training.data import records
from training.data.trained_on import TrainedOn, of_facts
from training.errors import TrainingError
from training.network import model
from training.network.presets import Preset


@contextlib.contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Keep other trainings of this machine out, for one that goes on removes newer checkpoints.

    Raises:
        TrainingError: one is at work there; the kernel frees the folder when that ends.
    """
    is_new = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    folder = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise TrainingError(
            f"{run}: another training is at work there. Let it end, or give another --output"
        ) from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(folder)
        if is_new and not any(run.iterdir()):
            run.rmdir()  # refused before anything was written


def write_json(path: Path, document: dict[str, Any]) -> None:
    """A reader sees the old file or the new one, never a part. A list of numbers is one line."""
    text = json.dumps(document, indent=2)
    text = re.sub(r"\[\n[\d\s.,e+-]+\]", lambda match: "".join(match[0].split()), text)
    disk.write_file(path, text + "\n")


def plain_settings(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as JSON holds it, paths as text."""
    return dict(json.loads(json.dumps(dataclasses.asdict(settings), default=str)))


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
    network = model.build_network(preset, len(labels))
    checkpoint = tf.train.Checkpoint(average=network)
    checkpoint.read(str(newest)).assert_existing_objects_matched().expect_partial()
    return network, preset, labels


def trained_on(run: Path) -> TrainedOn:
    """The photos that a run was trained on, and those before it that it started from."""
    description = read_description(run)
    if "trained_on" in description:
        return of_facts(description)
    try:  # it was trained before a run told
        settings = description["settings"]
        manifest = records.load_manifest(Path(settings["records"]), settings["train_split"])
        same = manifest.fingerprint == description["fingerprint"]
    except (KeyError, records.ManifestError):
        return TrainedOn()
    return TrainedOn().also(manifest) if same else TrainedOn()


def start_from(network: keras.Model, run: Path) -> str:
    """Give a network the weights of another run wherever layers have the same name and shapes.

    Returns:
        A line that says which layers were not set and so stay as they are: heads for other labels,
        what stands before heads that the other run had no default boxes for.

    Raises:
        TrainingError: the run's network is another; nothing was set.
    """
    source, preset, _ = load_network(run)
    known = {layer.name: layer for layer in source.layers}
    ours = [layer for layer in network.layers if layer.weights]
    kept = [layer.name for layer in ours if _shapes(known.get(layer.name)) != _shapes(layer)]
    if len(kept) > len(ours) / 2:
        raise TrainingError(
            f"{run} trained {preset.name} with other layers, first {kept[0]}: "
            f"expected a run of {network.name}"
        )
    for layer in ours:
        if layer.name not in kept:
            layer.set_weights(known[layer.name].get_weights())
    return f"starting from {run}" + (f"; random: {', '.join(kept)}" if kept else "")


def _shapes(layer: keras.layers.Layer | None) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights] if layer else []


def newest_step(run: Path) -> int:
    """The step at which the newest checkpoint was written."""
    return checkpoints.step_of(_newest_checkpoint(run))


def last_checkpoint_text(run: Path) -> str:
    """A sentence that says what a run that stops here continues from."""
    newest = checkpoints.newest_whole(run / "checkpoints")
    if not newest:
        return "There is no checkpoint yet"
    return f"The last checkpoint is that of step {checkpoints.step_of(newest)}"


def read_metrics(run: Path) -> dict[str, Any] | None:
    """mAP of the newest checkpoint's weights; None where those were not evaluated."""
    if not (run / "metrics.json").exists():
        return None
    metrics = read_json(run / "metrics.json", "mAP figures")
    if "trained_on" not in metrics and read_description(run)["settings"]["train_split"] != "train":
        return None  # of before it was told apart: val may have been trained on
    return metrics if metrics.get("step") == newest_step(run) else None


def last_map50(run: Path) -> dict[str, str]:
    """mAP@0.5 of the last evaluation, of whatever weights, by what it is called there."""
    path = run / "metrics.json"
    metrics = read_json(path, "mAP figures") if path.exists() else {}
    return {key: f"{x:.3f}" for key, x in metrics.items() if key.startswith("mAP@0.5")}


def rewind(run: Path, step: int) -> None:
    """Remove what later steps left, which a run that continues at `step` will do again."""
    checkpoints.remove_newer(run / "checkpoints", step)
    events.cut_after(run / "tensorboard", step)


def _newest_checkpoint(run: Path) -> Path:
    newest = checkpoints.newest_whole(run / "checkpoints")
    if newest is None:
        raise TrainingError(f"{run / 'checkpoints'} holds no checkpoint yet: train first")
    return newest
