"""Pruned, trained on, evaluated and exported, with a network that trains in milliseconds."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers

from training import (
    checkpoints,
    prune,
    run_folder,
    train,
)
from training.data import records
from training.errors import TrainingError
from training.evaluation import evaluate
from training.export import export
from training.input import input_pipeline
from training.network import channels, model
from training.network.blocks import norm
from training.network.channels import Channels, Ends
from training.network.default_boxes import default_boxes
from training.network.loss import multibox_loss
from training.network.presets import SSD_COMPACT, SSD_LITE0, Preset
from training.settings import TrainSettings

CLASSES = 3


def _backbone(image: tf.Tensor, preset: Preset) -> list[tf.Tensor]:
    """SSD300's six feature maps; the finest has a residual block and a depthwise convolution."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = model.conv(layers.AveragePooling2D(8, padding="same")(x), "map_0", 32)
    y = model.conv(model.conv(x, "inner", 48), "outer", 32)
    x = model.conv(layers.Add()([x, y]), "wide", 48)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="wide_depthwise")(x)
    x = layers.ReLU()(norm(x, "wide_depthwise"))
    maps = [model.conv(x, "thin", 32)]  # [B, 38, 38, 32]
    for index in range(1, 5):
        maps.append(model.conv(maps[-1], f"map_{index}", 32, strides=2, is_normed=index > 1))
    return [*maps, model.conv(maps[-1], "map_5", 8, padding="valid")]


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "compact", _backbone)
        patch.setattr(prune, "_BATCHES", 3)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the network for the records' labels, with one checkpoint."""
    return _write_run(tmp_path_factory.mktemp("runs") / "whole", ["RBC", "WBC", "Platelets"])


def _write_run(folder: Path, labels: list[str], preset: Preset = SSD_COMPACT) -> Path:
    network = model.build_network(preset, len(labels))
    checkpoints.save_checkpoint(tf.train.Checkpoint(average=network), folder / "checkpoints", 7)
    description = {"preset": dataclasses.asdict(preset), "labels": labels}
    run_folder.write_json(folder / "run.json", description)
    return folder


def _training(records_folder: Path, output: Path, start_from: Path | None = None) -> TrainSettings:
    """Two steps of four images."""
    return TrainSettings(
        records_folder,
        output,
        preset="ssd_compact",
        pretrained=str(start_from) if start_from else None,
        epochs=1,
        batch_size=4,
        evaluate_every=0,
    )


@pytest.fixture(scope="module")
def pruned(records_folder: Path, whole: Path) -> Path:
    output = whole.with_name("pruned")
    assert prune.prune_run(prune.PruneSettings(whole, records_folder, output, keep=0.6)) == 0
    return output


def _multiply_adds(run: Path) -> int:
    return channels.trace_channels(run_folder.load_network(run)[0]).multiply_adds({})


def test_a_pruned_run_has_less_work(whole: Path, pruned: Path) -> None:
    assert 0.3 < _multiply_adds(pruned) / _multiply_adds(whole) <= 0.6
    network, preset, _ = run_folder.load_network(pruned)
    widths = dict(preset.widths)
    assert all(width % prune.BLOCK == 0 for width in widths.values())
    assert widths.get("map_0") == widths.get("outer")
    assert "map_5" not in widths  # has fewer than a block
    assert len(run_folder.trained_on(pruned).photos) == 8  # which channels matter was seen on them
    for name, width in widths.items():
        assert network.get_layer(name).filters == width


def test_a_pruned_run_is_trained_on_evaluated_and_exported(
    records_folder: Path, pruned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned, artifact = pruned.with_name("tuned"), pruned.with_name("artifact")
    settings = _training(records_folder, tuned, start_from=pruned)
    assert train.train_detector(settings) == 0
    assert f"starting from {pruned}\n" in capsys.readouterr().out  # nothing stays random
    assert (
        train.train_detector(dataclasses.replace(settings, pretrained=None)) == 0
    )  # as after a move
    assert "nothing to do" in capsys.readouterr().out
    assert _multiply_adds(tuned) == _multiply_adds(pruned)
    assert evaluate.evaluate_detector(evaluate.EvaluateSettings(records_folder, tuned)) == 0
    assert export.export_run(export.ExportSettings(tuned, artifact, keep=50)) == 0
    session = onnxruntime.InferenceSession(artifact / "model.onnx")
    boxes, _ = session.run(None, {"images": np.zeros((2, 300, 300, 3), np.uint8)})
    assert boxes.shape == (2, 50, 4)
    card = json.loads((artifact / "card.json").read_text())
    assert dict(card["preset_settings"]["widths"]) == dict(
        run_folder.load_network(pruned)[1].widths
    )


def test_depthwise_convolutions_go_with_what_they_read(
    records_folder: Path, tmp_path: Path
) -> None:
    run = _write_run(tmp_path / "run", ["RBC", "WBC", "Platelets"], SSD_LITE0)
    settings = prune.PruneSettings(run, records_folder, tmp_path / "pruned", keep=0.8)
    assert prune.prune_run(settings) == 0
    network, preset, _ = run_folder.load_network(tmp_path / "pruned")
    assert _multiply_adds(tmp_path / "pruned") <= 0.8 * _multiply_adds(run)
    narrowed = [name for name, _ in preset.widths if name.endswith("_expand")]
    assert narrowed
    for name in narrowed:
        depthwise = network.get_layer(name.replace("expand", "depthwise"))
        assert depthwise.kernel.shape[2:] == (dict(preset.widths)[name], 1)


def test_a_pruned_run_is_not_trained_in_place(records_folder: Path, pruned: Path) -> None:
    with pytest.raises(TrainingError, match="train it into another folder, with --pretrained"):
        train.train_detector(_training(records_folder, pruned, start_from=pruned))


def test_a_pruned_run_can_be_pruned_again(
    records_folder: Path, pruned: Path, tmp_path: Path
) -> None:
    settings = prune.PruneSettings(pruned, records_folder, tmp_path / "twice", keep=0.8)
    assert prune.prune_run(settings) == 0
    assert _multiply_adds(tmp_path / "twice") <= 0.8 * _multiply_adds(pruned)
    before, after = (
        dict(run_folder.load_network(x)[1].widths) for x in (pruned, tmp_path / "twice")
    )
    assert all(after[name] <= width for name, width in before.items())


@pytest.mark.parametrize("keep", [0.0, 1.0, 1.5, -0.5, float("nan")])
def test_keep_is_a_share(records_folder: Path, whole: Path, tmp_path: Path, keep: float) -> None:
    settings = prune.PruneSettings(whole, records_folder, tmp_path / "out", keep)
    with pytest.raises(TrainingError, match="--keep must be more than 0 and less than 1, got"):
        prune.prune_run(settings)


def test_keep_is_too_little(records_folder: Path, whole: Path, tmp_path: Path) -> None:
    settings = prune.PruneSettings(whole, records_folder, tmp_path / "out", keep=0.01)
    with pytest.raises(TrainingError, match=r"--keep must be 0\.\d\d or more for this network"):
        prune.prune_run(settings)
    assert not (tmp_path / "out").exists()


def test_output_exists(records_folder: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="exists already"):
        prune.prune_run(prune.PruneSettings(whole, records_folder, tmp_path))


def test_a_folder_that_is_no_run(records_folder: Path, tmp_path: Path) -> None:
    settings = prune.PruneSettings(tmp_path, records_folder, tmp_path / "out")
    with pytest.raises(TrainingError, match=r"run.json does not exist"):
        prune.prune_run(settings)


def test_a_run_without_a_checkpoint(records_folder: Path, whole: Path, tmp_path: Path) -> None:
    run_folder.write_json(tmp_path / "run.json", run_folder.read_description(whole))
    settings = prune.PruneSettings(tmp_path, records_folder, tmp_path / "out")
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        prune.prune_run(settings)


def test_records_with_other_labels(records_folder: Path, tmp_path: Path) -> None:
    run = _write_run(tmp_path / "run", ["a", "b"])
    settings = prune.PruneSettings(run, records_folder, tmp_path / "out")
    with pytest.raises(TrainingError, match=r"trained for the labels a, b, but .* holds RBC, WBC"):
        prune.prune_run(settings)


# --------------------------------------------------------------------------------- which channels

_Batch = tuple[tf.Tensor, ...]


@pytest.fixture(scope="module")
def batch(records_folder: Path) -> _Batch:
    manifest = records.load_manifest(records_folder, "train")
    batches = input_pipeline.training_batches(
        manifest, SSD_COMPACT, batch_size=4, seed=0, vertical_flip=False
    )
    return next(iter(batches))


def _loss(network: keras.Model, batch: _Batch) -> float:
    images, offsets, targets, _ = batch
    outputs = network(images, training=False)
    localisation, classification, matches = multibox_loss(
        outputs["offsets"],
        outputs["logits"],
        offsets,
        targets,
        default_boxes(SSD_COMPACT),
        SSD_COMPACT,
    )
    return float(tf.reduce_sum(localisation + classification) / tf.reduce_sum(matches))


@pytest.mark.parametrize(
    ("group", "scaled"),
    [
        ("inner", ["inner_norm"]),
        ("map_0", ["map_0_norm", "outer_norm"]),
        ("map_1", ["map_1"]),
        ("wide", ["wide_depthwise_norm"]),
    ],
)
def test_importance_is_the_squared_slope_of_the_loss(
    batch: _Batch, group: str, scaled: list[str]
) -> None:
    """Against the differences that factors close to 1 make, where they make most of one.

    Their median: another negative may become a hard one within a difference.
    """
    network = model.build_network(SSD_COMPACT, CLASSES)
    found = prune.channel_importance(
        network, SSD_COMPACT, channels.trace_channels(network), [batch]
    )[group]
    channel = int(found.argmax())
    slopes = []
    for step in (0.01, 0.02, 0.03, 0.05, 0.07):
        losses = []
        for factor in (1 - step, 1 + step):
            kept = {name: network.get_layer(name).get_weights() for name in scaled}
            for name, weights in kept.items():
                changed = [x.copy() for x in weights]
                for weight in changed[:2]:
                    weight[..., channel] *= factor
                network.get_layer(name).set_weights(changed)
            losses.append(_loss(network, batch))
            for name, weights in kept.items():
                network.get_layer(name).set_weights(weights)
        slopes.append((losses[1] - losses[0]) / (2 * step))
    assert found[channel] == pytest.approx(np.median(slopes) ** 2, rel=0.2)
    assert found[channel] > 1e-8


def test_a_dead_channel_has_no_importance(batch: _Batch) -> None:
    network = model.build_network(SSD_COMPACT, CLASSES)
    norm = network.get_layer("inner_norm")
    gamma, *others = norm.get_weights()
    gamma[7] = 0.0
    norm.set_weights([gamma, *others])
    scores = prune.channel_importance(
        network, SSD_COMPACT, channels.trace_channels(network), [batch]
    )["inner"]
    assert scores[7] == 0.0
    assert np.count_nonzero(scores) > 40  # of 48; the random network has dead ones of its own


def _two_layers(first: int, second: int) -> Channels:
    """Image, `a`, `b`, predictors; each multiply-add of `a` counts four times."""
    ends = {"a": Ends(None, "a"), "b": Ends("a", "b"), "head": Ends("b", None)}
    depths = {"a": (3, first), "b": (first, second), "head": (second, 8)}
    return Channels(ends, {"a": first, "b": second}, {"a": 4, "b": 1, "head": 1}, depths)


def test_the_least_important_block_goes_first() -> None:
    traced = _two_layers(64, 64)
    scores = {"a": np.full(64, 2.0), "b": np.arange(64.0)}
    assert prune.choose_widths(traced, scores, keep=0.9) == {"a": 48, "b": 64}
    scores = {"a": np.full(64, 20.0), "b": np.arange(64.0)}
    assert prune.choose_widths(traced, scores, keep=0.9) == {"a": 64, "b": 48}


def test_whole_blocks_go_until_the_work_is_little_enough() -> None:
    traced = _two_layers(60, 40)
    assert (prune.narrower(60), prune.narrower(48)) == (48, 32)
    for keep in (0.9, 0.6, 0.3):
        widths = prune.choose_widths(traced, {"a": np.ones(60), "b": np.ones(40)}, keep)
        assert traced.multiply_adds(widths) <= keep * traced.multiply_adds({})
        assert all(16 <= widths[k] <= v for k, v in traced.widths.items())
        assert all(widths[k] % 16 == 0 for k, v in traced.widths.items() if widths[k] < v)
