"""The training loop itself: steps, what is watched of them, evaluations and checkpoints."""

import math

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from training import (
    average,
    checkpoints,
    optimizer,
    run_folder,
    strategy,
)
from training.best_checkpoint import BestCheckpoint, has_ceased
from training.data import records
from training.errors import TrainingError
from training.evaluation import summaries
from training.input import input_pipeline
from training.input.rare_classes import Rarity
from training.network import mixed_precision, model
from training.network.default_boxes import default_boxes
from training.network.loss import multibox_loss
from training.network.presets import Preset
from training.pretrained import freeze_backbone, load_pretrained
from training.progress import Progress
from training.schedule import Schedule
from training.settings import CHECKPOINTS, EVALUATIONS, TrainSettings
from training.step_losses import StepLosses
from training.tracking import Tracker
from training.validation import open_validation

_REPORT_EVERY = 10  # steps between two looks at the losses; each look waits for the devices
_TIMED_STEPS = 5  # after so many the time of the run is told; the first of them compiles


class Trainer:
    """One run: network, optimizer and data under a strategy, from the newest checkpoint on."""

    def __init__(
        self,
        settings: TrainSettings,
        preset: Preset,
        schedule: Schedule,
        manifest: records.Manifest,
        devices: tf.distribute.Strategy,
        rarity: Rarity | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        self.settings, self.preset, self.schedule = settings, preset, schedule
        self.rarity, self.tracker = rarity or Rarity(), tracker or Tracker()
        self.manifest, self.strategy = manifest, devices
        self.is_chief = strategy.is_chief(devices)
        self.folder = strategy.choose_folder(settings.output, self.is_chief)
        # Not 0: beside a global seed of 0 tf.data's shuffle refuses a tensor as its own seed.
        keras.utils.set_random_seed(settings.seed + 1)
        with devices.scope():
            with mixed_precision.compute_in(settings.precision):
                self.network = model.build_network(preset, len(manifest.labels))
            newest = checkpoints.newest_whole(settings.output / "checkpoints")
            if not newest:
                self._initialise()
            freeze_backbone(self.network, settings, preset)
            self.optimizer = optimizer.build_optimizer(
                preset, schedule, settings.clip_norm, settings.precision
            )
            self.optimizer.build(self.network.trainable_variables)
            self.average = self.network
            if settings.average_decay:
                self.average = average.start_average(self.network, preset, len(manifest.labels))
            # Not the optimizer's count: that leaves out the steps that overflow in float16.
            self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self.default_boxes = default_boxes(preset)
        self.checkpoint = tf.train.Checkpoint(
            network=self.network,
            optimizer=self.optimizer,
            average=self.average,
            steps=self.steps,
        )
        if newest:
            self.checkpoint.read(str(newest)).assert_existing_objects_matched()
        self.validation = open_validation(settings, self.average, preset, self.is_chief)
        self.gradients = (
            tf.function(self._gradients, jit_compile=True) if settings.xla else self._gradients
        )
        self.best = BestCheckpoint(settings.output, self.folder / "best", self.average)
        self.map50: dict[str, str] = {}  # of the last evaluation, by what it is called
        self.losses = StepLosses(devices, settings, schedule)

    def _initialise(self) -> None:
        """Weights from elsewhere, where the settings or the preset name some."""
        done = load_pretrained(self.network, self.settings, self.preset)
        if done and self.is_chief:
            print(done)

    @property
    def step(self) -> int:
        return int(self.steps.numpy())

    def train(self) -> None:
        schedule, first = self.schedule, self.step
        if first:
            print(f"continuing {self.settings.output} at step {first} of {schedule.total_steps}")
        if first >= schedule.total_steps:
            print(
                "this run is complete: nothing to do. More --epochs extend it, another --output "
                "begins a new one"
            )
            return
        if has_ceased(self.settings, schedule, self.best.metrics, first):
            print(f"this run has stopped early at step {first}: --stop-early 0 goes on")
            return
        strategy.meet_workers(self.strategy, first)
        if self.is_chief:
            run_folder.rewind(self.settings.output, first)
            print("compiling the network first: a minute or so", flush=True)
        self.map50 = run_folder.last_map50(self.settings.output)
        try:
            with self._writer().as_default(), self._progress(first) as progress:
                self._train(first, progress)
            # Not before the chief has written everything: a chief lost sooner begins anew with all.
            strategy.meet_workers(self.strategy, self.step)
        except KeyboardInterrupt:
            # Of several workers each would stop at another step: their last checkpoint counts.
            if not strategy.in_cluster():
                self._save()
                print(f"stopped at step {self.step}: the same command continues")
            raise

    def _train(self, first: int, progress: Progress) -> None:
        batches = iter(self.batches(skip=first * self.schedule.batch_size))
        for step in range(first + 1, self.schedule.total_steps + 1):
            batch = next(batches)
            self.losses.add(step, batch[3], self.train_step(batch))
            progress.advance()
            ended = self._ends_part(step)
            timed = step == first + _TIMED_STEPS
            if step % _REPORT_EVERY == 0 or step == first + 1 or timed or ended:
                self._report(step, progress)
            if timed:
                progress.tell_estimate()
            if ended:
                if self._end_part(step):
                    return
                progress.resume()

    def _ends_part(self, step: int) -> bool:
        """Whether there is something to do after this step: to tell, to measure or to save."""
        due, settings = self.schedule.completes, self.settings
        return (
            due(None, CHECKPOINTS, step)
            or due(settings.checkpoint_every, CHECKPOINTS, step)
            or due(settings.evaluate_every, EVALUATIONS, step)
        )

    @tf.function
    def train_step(self, batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """One step on every replica; the losses of the global batch.

        Returns:
            loss, localisation, classification: float32 scalars.
            finite: bool [B] a replica, whether the image's own loss is a number.
        """
        losses = self.strategy.run(self._replica_step, args=(batch,))
        finite = losses.pop("finite")
        self.steps.assign_add(1)
        if self.average is not self.network:
            decay = self.settings.average_decay
            average.move_average(self.strategy, self.average, self.network, decay, self.steps)
        return {
            k: self.strategy.reduce(tf.distribute.ReduceOp.SUM, v, axis=None)
            for k, v in losses.items()
        } | {"finite": finite}

    def _replica_step(self, batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        images, offsets, targets, _ = batch
        gradients, losses = self.gradients(images, offsets, targets)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if self.settings.precision != "float16":  # which leaves steps that overflow out
            # ReLU makes 0 of NaN in TensorFlow's CPU kernels: the loss alone may not show it.
            finite = tf.math.is_finite(tf.linalg.global_norm(gradients))
            losses["loss"] = tf.where(finite, losses["loss"], math.nan)
        self.optimizer.apply(gradients, self.network.trainable_variables)
        return losses

    def _gradients(
        self, images: tf.Tensor, offsets: tf.Tensor, targets: tf.Tensor
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """This replica's part of the gradients and losses of the global batch."""
        context = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            localisation, classification, matches = multibox_loss(
                outputs["offsets"],
                outputs["logits"],
                offsets,
                targets,
                self.default_boxes,
                self.preset,
                self.rarity.weights,
            )  # [B] each
            finite = tf.math.is_finite(localisation + classification)
            matches = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(matches))
            matches = tf.maximum(matches, 1.0)
            localisation = tf.reduce_sum(localisation) / matches
            classification = tf.reduce_sum(classification) / matches
            loss = localisation + classification
            scaled = self.optimizer.scale_loss(loss)
        return tape.gradient(scaled, self.network.trainable_variables), {
            "loss": loss,
            "localisation": localisation,
            "classification": classification,
            "finite": finite,
        }

    def batches(self, skip: int = 0) -> tf.distribute.DistributedDataset:
        """Batches of the training split without end, from the image after `skip` on."""

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return input_pipeline.training_batches(
                self.manifest,
                self.preset,
                batch_size=context.get_per_replica_batch_size(self.schedule.batch_size),
                seed=self.settings.seed,
                vertical_flip=self.settings.vertical_flip,
                skip=skip,
                shard=(context.input_pipeline_id, context.num_input_pipelines),
                repeats=self.rarity.repeats,
            )

        return self.strategy.distribute_datasets_from_function(pipeline)

    def _writer(self) -> tf.summary.SummaryWriter:
        if not self.is_chief:
            return tf.summary.create_noop_writer()
        return tf.summary.create_file_writer(str(self.settings.output / "tensorboard"))

    def _progress(self, first: int) -> Progress:
        return Progress(
            self.schedule.total_steps, first, self.schedule.batch_size, visible=self.is_chief
        )

    def _report(self, step: int, progress: Progress) -> None:
        """Look at the losses since the last time, which waits for the devices."""
        values = self.losses.read()
        rate = float(self.optimizer.learning_rate)
        scalars = {f"train/{k}": v for k, v in values.items()} | {"train/learning_rate": rate}
        speed = progress.images_per_second()
        if speed:
            scalars["train/images_per_second"] = speed
        for name, value in scalars.items():
            tf.summary.scalar(name, value, step=step)
        self.tracker.add(step, scalars)
        facts = self._facts(values, speed)
        progress.show(self.schedule.epoch(step - 1) + 1, facts)
        if self.schedule.completes(None, CHECKPOINTS, step):
            progress.tell(self.schedule.epoch(step), facts)

    def _facts(self, values: dict[str, float], speed: float | None) -> dict[str, str]:
        facts = {
            "loss": f"{values['loss']:.3f}",
            "loc": f"{values['localisation']:.3f}",
            "cls": f"{values['classification']:.3f}",
        }
        if speed:
            facts["img/s"] = f"{speed:.1f}"
        return facts | self.map50

    def _end_part(self, step: int) -> bool:
        """Measure and save what is due; whether the run ends here."""
        final, found = step == self.schedule.total_steps, None
        if self.validation and (
            final or self.schedule.completes(self.settings.evaluate_every, EVALUATIONS, step)
        ):
            found = self.validation.measure()
            self.map50 = {found.metrics.names[0]: f"{found.metrics.map50:.3f}"}
            if self.is_chief:
                self.validation.write(found, self.schedule.epoch(step), step)
                self.tracker.add(step, summaries.scalars_of(found))
            if not found.metrics.trained_on:  # what it knows by heart tells nothing
                self.best.keep({"step": step} | found.facts)
            if not final and has_ceased(self.settings, self.schedule, self.best.metrics, step):
                tqdm.write(f"no better on val for {self.settings.stop_early} evaluations")
                final = True
        if final or self.schedule.completes(self.settings.checkpoint_every, CHECKPOINTS, step):
            self._save()
        if final and self.validation and found and self.is_chief:
            self.validation.write_report(found)
        return final

    def _save(self) -> None:
        """Save a checkpoint, unless its weights are spoilt: resuming from such would be in vain."""
        self.losses.check()
        spoilt = [w.path for w in self.network.weights if not np.isfinite(w).all()]
        if spoilt:
            raise TrainingError(
                f"{len(spoilt)} weights are not finite at step {self.step}, first {spoilt[0]}: "
                f"lower --learning-rate (now {self.schedule.learning_rate:g})"
            )
        tf.summary.flush()  # a run that continues here has to find all that led here
        checkpoints.save_checkpoint(self.checkpoint, self.folder / "checkpoints", self.step)
        self.tracker.send()
