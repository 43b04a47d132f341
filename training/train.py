"""`training train`: a custom loop under whatever tf.distribute strategy the machine offers.

One device: no strategy. Several GPUs: MirroredStrategy. TF_CONFIG in the environment:
MultiWorkerMirroredStrategy. The loop is the same; the loss is divided by the number of matches of
the global batch and batch normalisation is synchronised, so N replicas give the numbers of one.
"""

import contextlib
import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import Any, TypeVar

import keras
import tensorflow as tf

from training import checkpoints, run_folder, strategy
from training.best_checkpoint import has_ceased, read_best
from training.data import records, tiles
from training.data.trained_on import NOTHING, TrainedOn
from training.errors import TrainingError
from training.fitted_boxes import load_fitted
from training.input.rare_classes import plan_rarity
from training.network.mixed_precision import choose_number_type
from training.network.presets import PRESETS, Preset, Widths, choose_input
from training.pretrained import check_pretrained, pretrained_run
from training.schedule import Schedule, count_steps, plan_schedule
from training.settings import TrainSettings
from training.tracking import Tracker, check_tracking, open_tracker
from training.trainer import Trainer

Settings = TypeVar("Settings", bound=TrainSettings)


def train_detector(settings: TrainSettings) -> int:
    """Train what the settings name, on from where the run folder's newest checkpoint stands.

    Returns:
        0. A lost worker of several ends the process.

    Raises:
        TrainingError: the records, the run folder or a setting do not allow it.
    """
    if strategy.in_cluster() and is_complete(settings):
        # The other workers may have ended well, and would be waited for in vain.
        print("this run is complete: nothing to do")
        return 0
    try:
        train_preset(settings, choose_preset(settings))
    except strategy.WorkerLostError as error:
        # TensorFlow would wait for the lost worker when the interpreter ends, and may abort it.
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(error.exit_code)
    return 0


def choose_preset(settings: TrainSettings) -> Preset:
    """The preset that the settings name, changed as they say.

    Raises:
        TrainingError: it cannot be.
    """
    preset = dataclasses.replace(PRESETS[settings.preset], photometric=settings.photometric)
    preset = choose_input(preset, settings.input_size, settings.resize)
    if settings.default_boxes:
        preset = load_fitted(settings.default_boxes, preset)
    return dataclasses.replace(preset, widths=_widths(settings))


def is_complete(settings: TrainSettings) -> bool:
    """Whether the run has all its steps behind it, or has stopped early.

    Raises:
        TrainingError: the run folder holds another run than the settings mean.
    """
    if not (settings.output / "run.json").exists():
        return False
    settings, preset = settle_precision(settings), choose_preset(settings)
    manifest = records.load_manifest(settings.records, settings.train_split)
    description = _describe_run(settings, preset, manifest, NOTHING)
    before = run_folder.read_description(settings.output)
    _check_same_run(settings.output, before, description, manifest.count)
    newest = checkpoints.newest_whole(settings.output / "checkpoints")
    step = checkpoints.step_of(newest) if newest else 0
    schedule = plan_schedule(settings, preset, manifest.count)
    ceased = has_ceased(settings, schedule, read_best(settings.output), step)
    return ceased or step >= schedule.total_steps


def _widths(settings: TrainSettings) -> Widths:
    """Those of the run that this one continues, or of the one it starts from."""
    if (settings.output / "run.json").exists():
        source: Path | None = settings.output
    else:
        source = pretrained_run(settings)
    return run_folder.preset_from(run_folder.read_description(source)).widths if source else ()


def train_preset(settings: TrainSettings, preset: Preset) -> None:
    """Train one run from its start, or from its newest checkpoint, to its end.

    Args:
        settings: `settings.preset` is only a name here.
        preset: what is trained, one of PRESETS, or one made from it.

    Raises:
        TrainingError: settings out of range, records or run folder of something else.
        WorkerLostError: another machine is gone, or sees another run folder.
    """
    settings = settle_precision(settings)
    manifest = records.load_manifest(settings.records, settings.train_split)
    tiles.check_tile(manifest.tile, preset.input_size)
    schedule = plan_schedule(settings, preset, manifest.count)
    check_tracking(settings.mlflow)
    alone: contextlib.AbstractContextManager[None] = run_folder.alone_in(settings.output)
    if strategy.in_cluster():
        alone = contextlib.nullcontext()  # its workers train in one folder
    with strategy.telling_losses(settings.output), alone:
        devices = strategy.choose_devices(settings.logical_cpus)
        check_devices(settings, schedule, devices.num_replicas_in_sync)
        # It runs operations, which have to wait for those that connect several workers.
        rarity = plan_rarity(manifest, settings.repeat_rare, settings.weigh_rare)
        if strategy.is_chief(devices):
            open_run(settings, preset, manifest)
        print(
            f"{preset.name}, {manifest.count} images, {schedule.total_steps} steps of "
            f"{schedule.batch_size} on {strategy.describe_devices(devices)}, {settings.precision}",
            flush=True,
        )
        tracker = Tracker()
        if strategy.is_chief(devices):
            tracker = open_tracker(settings.mlflow, settings.output)
        with tracker.follow(settings.output):
            Trainer(settings, preset, schedule, manifest, devices, rarity, tracker).train()


def settle_precision(settings: Settings) -> Settings:
    """The settings with `auto` as that of the run that goes on, or what is fastest here."""
    if settings.precision != "auto":
        return settings
    if (settings.output / "run.json").exists():
        begun = run_folder.read_description(settings.output).get("settings", {})  # pruned: none
        precision = begun.get("precision", "float32")
    else:
        precision = choose_number_type(PRESETS[settings.preset])
    return dataclasses.replace(settings, precision=precision)


def check_devices(settings: TrainSettings, schedule: Schedule, count: int) -> None:
    """Refuse what so many devices cannot do.

    Raises:
        TrainingError: they cannot.
    """
    if schedule.batch_size % count:
        raise TrainingError(
            f"--batch-size must be a multiple of the {count} devices, got {schedule.batch_size}"
        )
    if settings.xla and count > 1:
        raise TrainingError(
            f"--xla is for one device, got {count}: what the devices tell each other within a "
            "step cannot be compiled. Leave it out"
        )


def open_run(settings: TrainSettings, preset: Preset, manifest: records.Manifest) -> None:
    """Write run.json, or check that an existing run is this one."""
    if (settings.output / "run.json").exists():
        description = _describe_run(settings, preset, manifest, NOTHING)
        _continue_run(settings.output, description, manifest.count)
        return
    check_pretrained(settings, preset)
    source = pretrained_run(settings)
    before = run_folder.trained_on(source) if source else NOTHING
    settings.output.mkdir(parents=True, exist_ok=True)
    description = _describe_run(settings, preset, manifest, before)
    run_folder.write_json(settings.output / "run.json", description)


def _describe_run(
    settings: TrainSettings, preset: Preset, manifest: records.Manifest, before: TrainedOn
) -> dict[str, Any]:
    return {
        "settings": run_folder.plain_settings(settings),
        "preset": dataclasses.asdict(preset),
        "labels": list(manifest.labels),
        "fingerprint": manifest.fingerprint,
        "tile": manifest.tile,
        "trained_on": before.also(manifest).to_dict(),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }


def _continue_run(output: Path, description: dict[str, Any], images: int) -> None:
    """Check that an existing run is this one; more epochs than it was given become its own."""
    before = run_folder.read_description(output)
    _check_same_run(output, before, description, images)
    newest = checkpoints.newest_whole(output / "checkpoints")
    given = description["settings"]["pretrained"]
    if newest and given not in (None, before["settings"].get("pretrained")):
        print(f"{output} has begun already: --pretrained {given} is not read")
    was, now = (_resolved(each, images)["epochs"] for each in (before, description))
    if now > was:
        step = checkpoints.step_of(newest) if newest else 0
        print(f"extending {output} from {was} to {now} steps")
        before["settings"]["epochs"] = description["settings"]["epochs"]
        extended = [*before.get("extended", []), {"steps": was, "at_step": step}]
        run_folder.write_json(output / "run.json", before | {"extended": extended})


def _resolved(description: dict[str, Any], images: int) -> dict[str, Any]:
    """A run's settings, the preset's where none were given; its epochs as the steps they are."""
    settings, preset = description["settings"], run_folder.preset_from(description)
    batch_size = settings["batch_size"] or preset.batch_size
    scaled = preset.learning_rate * batch_size / preset.batch_size
    return settings | {
        "epochs": count_steps(preset, images, batch_size, settings["epochs"]),
        "batch_size": batch_size,
        "learning_rate": settings["learning_rate"] or scaled,
        "input_size": preset.input_size,
        "resize": preset.resize,
        "freeze": preset.freeze if settings.get("freeze") is None else settings["freeze"],
        "repeat_rare": settings.get("repeat_rare", 0.0),  # a run of before there was it has none
        "weigh_rare": settings.get("weigh_rare", 0.0),
    }


def _check_same_run(
    output: Path, before: dict[str, Any], description: dict[str, Any], images: int
) -> None:
    for key, what in (("pruned", "what `training prune` wrote"), ("chosen_on", "a run's best")):
        if key in before:
            raise TrainingError(
                f"{output} holds {what}: train it into another folder, "
                f"with --pretrained {shlex.quote(str(output))}"
            )
    movable = (
        "records",
        "output",
        "default_boxes",
        "pretrained",
        "xla",
        "logical_cpus",
        "evaluate_every",
        "checkpoint_every",
        "stop_early",
        "mlflow",
    )
    were, are = (_resolved(each, images) for each in (before, description))
    changed = [
        f"--{key.replace('_', '-')} (was {_told(key, were.get(key))}, now {_told(key, value)})"
        for key, value in are.items()
        if key not in movable
        and were.get(key) != value
        and not (key == "epochs" and value > were[key])
    ]
    wanted = run_folder.preset_from(description)
    if were["preset"] == are["preset"] and were["input_size"] == are["input_size"]:
        changed += [
            f"the preset's {field} (was {was!r}, now {now!r})"
            for field, was, now in _differences(run_folder.preset_from(before), wanted)
            if field not in are
        ]
    if before["labels"] != description["labels"]:
        labels = (", ".join(each["labels"]) for each in (before, description))
        changed.append("the labels (were {}, now {})".format(*labels))
    elif before["fingerprint"] != description["fingerprint"]:
        changed.append("the data")
    if were["preset"] != are["preset"]:
        changed = [text for text in changed if text.startswith("--preset ")]  # it is why
    if changed:
        raise TrainingError(
            f"{output} holds a run with other settings: {'; '.join(changed)}. "
            "Give the same settings to continue it, or another --output"
        )


def _told(key: str, value: Any) -> str:
    return f"{value} steps" if key == "epochs" else repr(value)


def _differences(one: Preset, other: Preset) -> list[tuple[str, Any, Any]]:
    names = [field.name for field in dataclasses.fields(Preset)]
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]
