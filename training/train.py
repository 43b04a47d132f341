"""`training train`: a custom loop under whatever tf.distribute strategy the machine offers.

One device: no strategy. Several GPUs: MirroredStrategy. TF_CONFIG in the environment:
MultiWorkerMirroredStrategy. The loop is the same; the loss is divided by the number of matches of
the global batch and batch normalisation is synchronised, so N replicas give the numbers of one.
"""

import atexit
import dataclasses
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf
import tyro
from tqdm import tqdm

from training import average, evaluate, fit, input_pipeline, model, records, run_folder
from training.default_boxes import default_boxes
from training.errors import TrainingError
from training.loss import multibox_loss
from training.presets import PRESETS, Preset, PresetName

_REPORT_EVERY = 10  # steps between two looks at the loss; each look waits for the device


def _of_preset(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the preset's)")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Train a detector. The same command again continues an interrupted run."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote, with a train split and, to watch mAP, a val split."""
    output: Path
    """Run folder: checkpoints, TensorBoard scalars, metrics."""
    preset: PresetName = "ssd_compact"
    """ssd_compact trains on a CPU; ssd300_vgg16 is the paper's SSD300 and wants GPUs."""
    default_boxes: Annotated[Path | None, _of_preset("FILE")] = None
    """Default boxes that `training fit` fitted to the data."""
    train_split: str = "train"
    """Split to train on."""
    epochs: Annotated[int | None, _of_preset("INT")] = None
    """Passes over the training data."""
    batch_size: Annotated[int | None, _of_preset("INT")] = None
    """Images a step over all devices."""
    learning_rate: Annotated[float | None, _of_preset("FLOAT")] = None
    """Peak learning rate; the preset's is scaled with the batch size."""
    warmup_epochs: float = 3.0
    """Epochs over which the learning rate rises from 0; then it falls along a cosine to 0."""
    average_decay: float = 0.999
    """Decay a step of the moving average of the weights, which is what evaluate and export use; it
    grows to this from 0.1, so that the average never spans more than a ninth of the run; 0 is
    off."""
    vertical_flip: bool = False
    """Also mirror top and bottom: for images without an up and down."""
    seed: int = 0
    """Fixes initial weights, order and augmentation."""
    evaluate_every: int = 10
    """Epochs between two mAP figures on the val split; 0 is never."""
    checkpoint_every: int = 5
    """Epochs between two checkpoints."""
    logical_cpus: int = 1
    """Split the CPU into this many devices, to try several replicas without GPUs."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The settings with the preset's defaults filled in, in steps."""

    batch_size: int  # images, global
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    learning_rate: float


def run(settings: TrainSettings) -> int:
    preset = PRESETS[settings.preset]
    if settings.default_boxes:
        preset = fit.load(settings.default_boxes, preset)
    train(settings, preset)
    return 0


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
    strategy = choose_strategy(settings.logical_cpus)
    if schedule.batch_size % strategy.num_replicas_in_sync:
        raise TrainingError(
            f"--batch-size must be a multiple of the {strategy.num_replicas_in_sync} devices, "
            f"got {schedule.batch_size}"
        )
    if _is_chief(strategy):
        _open_run(settings, preset, manifest)
    print(
        f"{preset.name}, {manifest.count} images, {schedule.total_steps} steps of "
        f"{schedule.batch_size} on {_devices(settings, strategy)}"
    )
    Trainer(settings, preset, schedule, manifest, strategy).train()


def plan(settings: TrainSettings, preset: Preset, images: int) -> Schedule:
    """The steps of a run over so many images.

    Raises:
        TrainingError: a setting is out of its range.
    """
    _check_ranges(settings)
    batch_size = settings.batch_size or preset.batch_size
    epochs = settings.epochs or preset.epochs
    steps_per_epoch = math.ceil(images / batch_size)
    return Schedule(
        batch_size,
        steps_per_epoch,
        epochs * steps_per_epoch,
        round(min(settings.warmup_epochs, epochs / 2) * steps_per_epoch),
        settings.learning_rate or preset.learning_rate * batch_size / preset.batch_size,
    )


def _check_ranges(settings: TrainSettings) -> None:
    positive = ("epochs", "batch_size", "learning_rate", "checkpoint_every", "logical_cpus")
    least = dict.fromkeys(positive, 1) | {"learning_rate": 1e-12}
    least |= {"warmup_epochs": 0, "evaluate_every": 0, "seed": 0}
    for name, minimum in least.items():
        value = getattr(settings, name)
        if value is not None and not minimum <= value < math.inf:
            expected = "more than 0" if name == "learning_rate" else f"{minimum} or more"
            raise TrainingError(f"--{name.replace('_', '-')} must be {expected}, got {value}")
    if not 0 <= settings.average_decay < 1:
        raise TrainingError(
            f"--average-decay must be 0 or more and below 1, got {settings.average_decay}"
        )


def choose_strategy(logical_cpus: int) -> tf.distribute.Strategy:
    """All machines of TF_CONFIG, else all GPUs, else this CPU."""
    if logical_cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        tf.config.set_logical_device_configuration(cpu, parts)
        return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(logical_cpus)])
    if "cluster" in _tf_config():
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _tf_config() -> dict[str, Any]:
    """Which machines train together, see TensorFlow's multi-worker guide; {} is this one alone."""
    return json.loads(os.environ.get("TF_CONFIG") or "{}")


def _devices(settings: TrainSettings, strategy: tf.distribute.Strategy) -> str:
    on_gpus = settings.logical_cpus == 1 and tf.config.list_physical_devices("GPU")
    kind = "GPU" if on_gpus else "CPU"
    count = strategy.num_replicas_in_sync
    return f"{count} {kind}{'s' if count > 1 else ''}"


def _open_run(settings: TrainSettings, preset: Preset, manifest: records.Manifest) -> None:
    """Writes run.json, or checks that an existing run is this one."""
    description = {
        "settings": _plain(settings),
        "preset": dataclasses.asdict(preset),
        "labels": list(manifest.labels),
        "fingerprint": manifest.fingerprint,
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    if (settings.output / "run.json").exists():
        _check_same_run(settings.output, description)
    else:
        settings.output.mkdir(parents=True, exist_ok=True)
        run_folder.write_json(settings.output / "run.json", description)


def _plain(settings: TrainSettings) -> dict[str, Any]:
    items = dataclasses.asdict(settings).items()
    return {key: str(value) if isinstance(value, Path) else value for key, value in items}


def _check_same_run(output: Path, description: dict[str, Any]) -> None:
    before = run_folder.read_description(output)
    movable = (
        "records",
        "output",
        "default_boxes",
        "logical_cpus",
        "evaluate_every",
        "checkpoint_every",
    )
    changed = [
        f"--{key.replace('_', '-')} (was {before['settings'].get(key)!r}, now {value!r})"
        for key, value in description["settings"].items()
        if key not in movable and before["settings"].get(key) != value
    ]
    wanted = run_folder.preset_from(description)
    changed += [
        f"the preset's {field} (was {was!r}, now {now!r})"
        for field, was, now in _differences(run_folder.preset_from(before), wanted)
    ]
    if before["fingerprint"] != description["fingerprint"]:
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


class Trainer:
    """One run: network, optimizer and data under a strategy, from the newest checkpoint on."""

    def __init__(
        self,
        settings: TrainSettings,
        preset: Preset,
        schedule: Schedule,
        manifest: records.Manifest,
        strategy: tf.distribute.Strategy,
    ) -> None:
        self.settings, self.preset, self.schedule = settings, preset, schedule
        self.manifest, self.strategy = manifest, strategy
        # Not 0: beside a global seed of 0 tf.data's shuffle refuses a tensor as its own seed.
        keras.utils.set_random_seed(settings.seed + 1)
        with strategy.scope():
            self.network = model.build(preset, len(manifest.labels))
            self.optimizer = _optimizer(preset, schedule)
            self.optimizer.build(self.network.trainable_variables)
            self.average = self.network
            if settings.average_decay:
                self.average = average.start(self.network, preset, len(manifest.labels))
        self.default_boxes = default_boxes(preset)
        self.checkpoints = tf.train.CheckpointManager(
            tf.train.Checkpoint(
                network=self.network, optimizer=self.optimizer, average=self.average
            ),
            _checkpoint_folder(settings.output, strategy),
            max_to_keep=2,
        )
        newest = tf.train.latest_checkpoint(settings.output / "checkpoints")
        if newest:
            self.checkpoints.checkpoint.restore(newest).assert_existing_objects_matched()
        self.val = self._val_split()
        self.truth = evaluate.read_truth(self.val) if self.val else []
        self.detect = evaluate.detection_step(model.Detector(self.average, preset))
        self.metrics: evaluate.Metrics | None = None

    @property
    def step(self) -> int:
        return int(self.optimizer.iterations.numpy())

    def train(self) -> None:
        schedule, first = self.schedule, self.step
        if first:
            print(f"continuing {self.settings.output} at step {first} of {schedule.total_steps}")
        if first >= schedule.total_steps:
            print("this run is complete: nothing to do")
            return
        batches = iter(self._batches(skip=first * schedule.batch_size))
        with self._writer().as_default(), self._progress_bar(first) as bar:
            try:
                for step in range(first + 1, schedule.total_steps + 1):
                    losses = self.train_step(next(batches))
                    bar.update()
                    if step % _REPORT_EVERY == 0 or step == schedule.total_steps:
                        self._report(step, losses, bar)
                    if step % schedule.steps_per_epoch == 0:
                        self._end_epoch(step // schedule.steps_per_epoch)
            except KeyboardInterrupt:
                # Of several workers each would stop at another step: their last checkpoint counts.
                if "cluster" not in _tf_config():
                    self._save()
                    tqdm.write(f"stopped at step {self.step}: the same command continues")
                raise

    @tf.function
    def train_step(self, batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """One step on every replica; the losses of the global batch."""
        losses = self.strategy.run(self._replica_step, args=(batch,))
        if self.average is not self.network:
            decay, steps = self.settings.average_decay, self.optimizer.iterations
            average.update(self.strategy, self.average, self.network, decay, steps)
        return {
            k: self.strategy.reduce(tf.distribute.ReduceOp.SUM, v, axis=None)
            for k, v in losses.items()
        }

    def _replica_step(self, batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        images, offsets, targets, _ = batch
        context = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            localisation, classification, matches = (
                tf.reduce_sum(part)
                for part in multibox_loss(
                    outputs["offsets"],
                    outputs["logits"],
                    offsets,
                    targets,
                    self.default_boxes,
                    self.preset,
                )
            )
            matches = tf.maximum(context.all_reduce(tf.distribute.ReduceOp.SUM, matches), 1.0)
            loss = (localisation + classification) / matches
        variables = self.network.trainable_variables
        # Keras sums the gradients over the replicas.
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {
            "loss": loss,
            "localisation": localisation / matches,
            "classification": classification / matches,
        }

    def _batches(self, skip: int) -> tf.distribute.DistributedDataset:
        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return input_pipeline.training_batches(
                self.manifest,
                self.preset,
                batch_size=context.get_per_replica_batch_size(self.schedule.batch_size),
                seed=self.settings.seed,
                vertical_flip=self.settings.vertical_flip,
                skip=skip,
                shard=(context.input_pipeline_id, context.num_input_pipelines),
            )

        return self.strategy.distribute_datasets_from_function(pipeline)

    def _writer(self) -> tf.summary.SummaryWriter:
        if not _is_chief(self.strategy):
            return tf.summary.create_noop_writer()
        return tf.summary.create_file_writer(str(self.settings.output / "tensorboard"))

    def _progress_bar(self, first: int) -> tqdm:
        return tqdm(
            initial=first,
            total=self.schedule.total_steps,
            unit="step",
            dynamic_ncols=True,
            disable=not _is_chief(self.strategy),
            mininterval=0.5 if sys.stderr.isatty() else 30.0,  # seconds; seldom into a log file
        )

    def _report(self, step: int, losses: dict[str, tf.Tensor], bar: tqdm) -> None:
        values = {k: float(v) for k, v in losses.items()}
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"the loss became {values['loss']} at step {step}: lower --learning-rate "
                f"(now {self.schedule.learning_rate:g}) or lengthen --warmup-epochs"
            )
        rate = float(self.optimizer.learning_rate)
        scalars = {f"train/{k}": v for k, v in values.items()} | {"train/learning_rate": rate}
        if bar.format_dict["rate"]:
            scalars["train/images_per_second"] = bar.format_dict["rate"] * self.schedule.batch_size
        for name, value in scalars.items():
            tf.summary.scalar(name, value, step=step)
        shown = {
            "epoch": math.ceil(step / self.schedule.steps_per_epoch),
            "loss": f"{values['loss']:.3f}",
            "loc": f"{values['localisation']:.3f}",
            "cls": f"{values['classification']:.3f}",
        }
        if "train/images_per_second" in scalars:
            shown["img/s"] = f"{scalars['train/images_per_second']:.1f}"
        if self.metrics:
            shown["mAP@.5"] = f"{self.metrics.map50:.3f}"
        bar.set_postfix(shown)

    def _end_epoch(self, epoch: int) -> None:
        settings = self.settings
        final = self.step == self.schedule.total_steps
        if self.val and (final or epoch % settings.evaluate_every == 0):
            self._evaluate(epoch)
        if final or epoch % settings.checkpoint_every == 0:
            self._save()

    def _save(self) -> None:
        """A checkpoint, unless its weights are spoilt: resuming from such would be in vain."""
        spoilt = [w.path for w in self.network.weights if not np.isfinite(w).all()]
        if spoilt:
            raise TrainingError(
                f"{len(spoilt)} weights are not finite at step {self.step}, first {spoilt[0]}: "
                f"lower --learning-rate (now {self.schedule.learning_rate:g})"
            )
        self.checkpoints.save(checkpoint_number=self.step)

    def _evaluate(self, epoch: int) -> None:
        """mAP on the val split. Every worker does it, because reading a mirrored variable may
        need all of them; only the chief writes."""
        assert self.val is not None
        detected = evaluate.detect(self.detect, self.val, self.preset.input_size)
        self.metrics = evaluate.score(self.truth, detected, self.val.labels)
        tf.summary.scalar("val/mAP@0.5", self.metrics.map50, step=self.step)
        tf.summary.scalar("val/mAP@[.5:.95]", self.metrics.map, step=self.step)
        if _is_chief(self.strategy):
            tqdm.write(f"epoch {epoch}\n{evaluate.table(self.metrics)}")
            run_folder.write_json(
                self.settings.output / "metrics.json",
                {"epoch": epoch, "step": self.step} | self.metrics.to_dict(),
            )

    def _val_split(self) -> records.Manifest | None:
        """None where no mAP is wanted or none can be had."""
        if not self.settings.evaluate_every or self.settings.train_split == "val":
            return None
        if not (self.settings.records / "val.json").exists():
            print(f"{self.settings.records} holds no val split: no mAP while training")
            return None
        return records.load_manifest(self.settings.records, "val")


def _optimizer(preset: Preset, schedule: Schedule) -> keras.optimizers.Optimizer:
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, schedule.total_steps - schedule.warmup_steps),
        warmup_target=schedule.learning_rate,
        warmup_steps=schedule.warmup_steps,
    )
    if preset.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=preset.weight_decay)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=preset.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "scale"])
    return optimizer


def _is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run folder; of a cluster exactly one does."""
    resolver = strategy.cluster_resolver
    if not resolver or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return (resolver.task_type, resolver.task_id) == ("chief" if has_chief else "worker", 0)


def _checkpoint_folder(output: Path, strategy: tf.distribute.Strategy) -> str:
    """Every worker must save, but only the chief's files count (TensorFlow's guide)."""
    if _is_chief(strategy):
        return str(output / "checkpoints")
    folder = tempfile.mkdtemp(prefix="training-checkpoints-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
