"""`training prune`: a run becomes one with fewer channels, to be trained further.

Which channels: those whose removal changes the loss least, by a first-order Taylor expansion around
their output (Molchanov et al., "Importance Estimation for Neural Network Pruning", arXiv
1906.10771, section 3.1). For a channel scaled by g the loss changes by about dL/dg, which is the
sum of weight times gradient over the last weights that scale it; squared and averaged over batches.

How many of each layer: blocks of 16 go one by one, always the one with the least importance for the
multiply-adds that it saves, until the wanted share of them is left. Filters' norms (arXiv
1608.08710) would need no photos, but say nothing across layers (measured: docs/pruning.md).
"""

import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
import tyro
from keras import layers
from tqdm import tqdm

from training import checkpoints, run_folder
from training.data import records
from training.data.trained_on import TrainedOn
from training.errors import TrainingError
from training.input import input_pipeline
from training.network import channels, model
from training.network.channels import Channels
from training.network.default_boxes import default_boxes
from training.network.loss import multibox_loss
from training.network.presets import Preset

# Channels that go at once. ONNX Runtime computes 16 at a time where the CPU has AVX-512 (8 with
# AVX2) and fills up what is missing: 56 channels take as long as 64, 48 take 0.59 of it.
BLOCK = 16
_BATCH_SIZE = 4  # images; small, so that the mean is over many batches
_BATCHES = 100


@dataclass(frozen=True)
class PruneSettings:
    """Remove the channels that a run's network needs least; then train it with --pretrained."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a training run; its newest checkpoint is pruned."""
    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote: which channels matter is measured on its images."""
    output: Path
    """Run folder of the smaller network; must not exist yet."""
    keep: float = 0.7
    """Share of the network's multiply-adds that stays, at most; its time follows."""
    split: str = "train"
    """Split whose images are taken, augmented as in training."""
    seed: int = 0
    """Fixes which images and how they are augmented."""


def prune_run(settings: PruneSettings) -> int:
    if settings.output.exists():
        raise TrainingError(f"{settings.output} exists already: choose another --output")
    if not 0 < settings.keep < 1:
        raise TrainingError(f"--keep must be more than 0 and less than 1, got {settings.keep}")
    network, preset, labels = run_folder.load_network(settings.run)
    manifest = records.load_manifest(settings.records, settings.split)
    manifest.check_labels(settings.run, labels)
    traced = channels.trace_channels(network)
    least = traced.multiply_adds(_narrowest(traced)) / traced.multiply_adds({})
    if settings.keep < least:
        raise TrainingError(
            f"--keep must be {least:.2f} or more for this network, got {settings.keep}: "
            f"with {BLOCK} channels a layer it is at its narrowest"
        )
    scores = channel_importance(
        network, preset, traced, measured_batches(preset, manifest, settings.seed)
    )
    widths = choose_widths(traced, scores, settings.keep)
    pruned, narrow = prune_network(network, preset, len(labels), traced, scores, widths)
    write_pruned(settings, pruned, narrow, run_folder.trained_on(settings.run).also(manifest))
    print(_table(traced, widths))
    again = f"training train --pretrained {shlex.quote(str(settings.output))}"
    print(f"{settings.output}: go on with `{again}`")
    return 0


def measured_batches(preset: Preset, manifest: records.Manifest, seed: int) -> tf.data.Dataset:
    """What to measure the channels on: a few hundred augmented images."""
    return input_pipeline.training_batches(
        manifest, preset, batch_size=_BATCH_SIZE, seed=seed, vertical_flip=False
    ).take(_BATCHES)


def channel_importance(
    network: keras.Model,
    preset: Preset,
    traced: Channels,
    examples: Iterable[tuple[tf.Tensor, ...]],
) -> dict[str, np.ndarray]:
    """How much the loss depends on each channel: group to [channels], 0 or more.

    Args:
        examples: batches, as `input_pipeline.training_batches` gives them.
    """
    slopes = _slopes(network, preset, traced)
    totals = {group: np.zeros(width) for group, width in traced.widths.items()}
    for images, offsets, targets, _ in tqdm(
        examples, desc="measuring channels", total=_BATCHES, unit="batch", disable=None, leave=False
    ):
        for group, slope in slopes(images, offsets, targets).items():
            totals[group] += slope.numpy() ** 2
    return totals


def _slopes(
    network: keras.Model, preset: Preset, traced: Channels
) -> Callable[..., dict[str, tf.Tensor]]:
    """A function of a batch: the loss's derivative by a factor at each channel, 1 at present.

    A factor at a channel of a group is one at each convolution that adds to it.
    """
    scaling = _scaling(network, traced)
    grid = default_boxes(preset)

    @tf.function
    def slopes(images: tf.Tensor, offsets: tf.Tensor, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = network(images, training=False)
            localisation, classification, matches = multibox_loss(
                outputs["offsets"], outputs["logits"], offsets, targets, grid, preset
            )
            total = tf.reduce_sum(localisation + classification)
            loss = total / tf.maximum(tf.reduce_sum(matches), 1.0)
        gradients = tape.gradient(loss, scaling)
        return {
            group: tf.add_n(
                [
                    tf.reduce_sum(weight * gradient, axis=range(len(weight.shape) - 1))
                    for weight, gradient in zip(weights, gradients[group], strict=True)
                ]
            )
            for group, weights in scaling.items()
        }

    return slopes


def _scaling(network: keras.Model, traced: Channels) -> dict[str, list[tf.Variable]]:
    """For each group the weights in which its convolutions' outputs are linear.

    Those of batch normalisation, or kernel and bias where a convolution has none behind it. One
    behind a depthwise convolution stands for all before it: it is what later layers read.
    """
    scaling: dict[str, list[tf.Variable]] = {group: [] for group in traced.widths}
    depthwise = {id(x.output) for x in network.layers if isinstance(x, layers.DepthwiseConv2D)}
    for layer in network.layers:
        group = traced.ends[layer.name].output
        plain = isinstance(layer, layers.Conv2D) and layer.use_bias
        if group and (plain or isinstance(layer, layers.BatchNormalization)):
            before = [] if id(layer.input) in depthwise else scaling[group]
            scaling[group] = before + [weight.value for weight in layer.trainable_weights]
    return scaling


def choose_widths(
    traced: Channels, scores: Mapping[str, np.ndarray], keep: float
) -> dict[str, int]:
    """How many channels each group keeps, for at most `keep` of the multiply-adds.

    Greedy: the next block to go is the one with the least importance a multiply-add saved.
    """
    widths, narrowest = dict(traced.widths), _narrowest(traced)
    worst_first = {group: np.sort(score) for group, score in scores.items()}
    wanted = keep * traced.multiply_adds({})
    while (now := traced.multiply_adds(widths)) > wanted:
        prices = {}
        for group, width in widths.items():
            if width > narrowest[group]:
                gone = traced.widths[group] - width
                less = narrower(width)
                lost = worst_first[group][gone : gone + width - less].sum()
                saved = now - traced.multiply_adds(widths | {group: less})
                prices[group] = lost / saved
        cheapest = min(prices, key=lambda group: prices[group])
        widths[cheapest] = narrower(widths[cheapest])
    return widths


def narrower(width: int) -> int:
    """The next smaller number of channels that fills whole blocks."""
    return (width - 1) // BLOCK * BLOCK


def _narrowest(traced: Channels) -> dict[str, int]:
    return {group: min(width, BLOCK) for group, width in traced.widths.items()}


def prune_network(
    network: keras.Model,
    preset: Preset,
    classes: int,
    traced: Channels,
    scores: Mapping[str, np.ndarray],
    widths: Mapping[str, int],
) -> tuple[keras.Model, Preset]:
    """The network with the most important channels of each group, and its preset."""
    smaller = {group: width for group, width in widths.items() if width < traced.widths[group]}
    preset = replace(
        preset, widths=tuple((dict(preset.widths) | dict(traced.of_layers(smaller))).items())
    )
    kept = {
        group: np.sort(np.argsort(-scores[group], kind="stable")[:width])
        for group, width in smaller.items()
    }
    pruned = model.build_network(preset, classes)
    channels.take_over(pruned, network, traced, kept)
    return pruned, preset


def write_pruned(
    settings: PruneSettings, network: keras.Model, preset: Preset, photos: TrainedOn
) -> None:
    """A run folder with the pruned network as its only checkpoint."""
    description = run_folder.read_description(settings.run)
    description |= {"preset": asdict(preset), "trained_on": photos.to_dict()}
    description["pruned"] = {"run": settings.run.name, "keep": settings.keep, "seed": settings.seed}
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint, step = tf.train.Checkpoint(average=network), run_folder.newest_step(settings.run)
    # Built beside and renamed, as an artifact is.
    with tempfile.TemporaryDirectory(dir=settings.output.parent, prefix=".prune-") as folder:
        pruned = Path(folder) / "run"
        checkpoints.save_checkpoint(checkpoint, pruned / "checkpoints", step)
        run_folder.write_json(pruned / "run.json", description)
        pruned.rename(settings.output)


def _table(traced: Channels, widths: Mapping[str, int]) -> str:
    before, after = traced.multiply_adds({}), traced.multiply_adds(widths)
    rows = [f"{'channels':24}before  after"]
    rows += [f"{k:24}{v:6} {widths[k]:6}" for k, v in traced.widths.items() if widths[k] < v]
    rows.append(
        f"{before / 1e6:.0f} million multiply-adds become {after / 1e6:.0f}, {after / before:.2f}"
    )
    return "\n".join(rows)
