"""What a run starts from, and what of it stays as it is."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training import checkpoints, train
from training.data import records
from training.errors import TrainingError
from training.network import model
from training.network.inverted_residuals import backbone_layers
from training.network.lite0_weights import find_package_file
from training.network.presets import PRESETS
from training.pretrained import check_pretrained, freeze_backbone, load_pretrained, pretrained_run
from training.run_folder import load_network
from training.settings import TrainSettings

LITE0 = PRESETS["ssd_lite0"]


def _settings(**changes: Any) -> TrainSettings:
    return dataclasses.replace(TrainSettings(Path("records"), Path("run")), **changes)


def test_a_step_leaves_the_frozen_part_as_imagenet_made_it(
    records_folder: Path, tmp_path: Path
) -> None:
    """Its statistics too; what comes after it moves."""
    settings = TrainSettings(
        records_folder, tmp_path / "run", preset="ssd_lite0", epochs=1, batch_size=4,
        warmup_epochs=0, average_decay=0, evaluate_every=0,
    )  # fmt: skip
    assert train.train_detector(settings) == 0
    trained, preset, _ = load_network(settings.output)
    fresh = model.build_network(preset, 3)
    load_pretrained(fresh, settings, preset)
    frozen = {layer.name for layer in backbone_layers(fresh, 8)}
    assert {"stem", "block_4_project_norm"} <= frozen
    for layer in backbone_layers(fresh):
        now = trained.get_layer(layer.name).get_weights()
        same = [np.array_equal(a, b) for a, b in zip(layer.get_weights(), now, strict=True)]
        assert all(same) == (layer.name in frozen), layer.name


@pytest.mark.parametrize(
    ("changes", "stride"),
    [
        ({}, 8),
        ({"pretrained": "none"}, 0),
        ({"freeze": 0}, 0),
        ({"freeze": 32}, 32),
        ({"pretrained": "none", "freeze": 2}, 2),
    ],
)
def test_how_much_is_frozen(changes: dict[str, Any], stride: int) -> None:
    network = model.build_network(LITE0, 2)
    freeze_backbone(network, _settings(**changes), LITE0)
    frozen = {layer.name for layer in network.layers if layer.weights and not layer.trainable}
    assert frozen == ({x.name for x in backbone_layers(network, stride)} if stride else set())


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("ssd_lite0", {"freeze": 3}, "--freeze: ssd_lite0 takes 0, 2, 4, 8, 16, 32, found 3"),
        ("ssd_compact", {"freeze": 8}, "--freeze: ssd_compact takes 0, found 8"),
        (
            "ssd_compact",
            {"pretrained": "imagenet"},
            "is for ssd_lite0 and ssd_mobilenet_v2: for ssd_compact name a file or a run",
        ),
        (
            "ssd_mobilenet_v2",
            {"freeze": 3, "pretrained": "none"},
            "--freeze: ssd_mobilenet_v2 takes 0, 2, 4, 8, 16, 32, found 3",
        ),
        ("ssd_lite0", {"pretrained": "no/such.pth"}, "found no/such.pth, which does not exist"),
    ],
)
def test_what_cannot_be_started_from_is_refused_before_anything_is_written(
    preset: str, changes: dict[str, Any], message: str, records_folder: Path, tmp_path: Path
) -> None:
    changes = {"records": records_folder, "output": tmp_path / "run", "preset": preset} | changes
    with pytest.raises(TrainingError, match=message):
        train.train_detector(_settings(**changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["damaged.pth", "other.h5", "other run"])
def test_weights_of_something_else_are_refused_before_anything_is_written(
    name: str, records_folder: Path, tmp_path: Path
) -> None:
    other, found = tmp_path / name, "damaged or another file: its sha256 is"
    if name == "other run":
        found = "trained ssd_compact with other layers, first stem: expected a run of ssd_lite0"
        compact = PRESETS["ssd_compact"]
        settings = _settings(records=records_folder, output=other, preset="ssd_compact")
        train.open_run(settings, compact, records.load_manifest(records_folder, "train"))
        checkpoint = tf.train.Checkpoint(average=model.build_network(compact, 3))
        checkpoints.save_checkpoint(checkpoint, other / "checkpoints", 1)
    elif name == "other.h5":
        model.build_network(LITE0, 1).save_weights(other.with_suffix(".weights.h5"))
        other.with_suffix(".weights.h5").rename(other)
    else:
        content = bytearray(find_package_file().read_bytes())
        content[1_000_000] ^= 1
        other.write_bytes(content)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=found):
        train.train_detector(
            _settings(records=records_folder, output=run, preset="ssd_lite0", pretrained=str(other))
        )
    assert not run.exists()


def test_a_package_that_is_not_installed_is_told_with_what_installs_it(
    records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"pip install -c constraints.txt -e '\.\[training\]'"):
        train.train_detector(_settings(records=records_folder, output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_copy_of_the_packages_file_is_as_good() -> None:
    networks = [model.build_network(LITE0, 2) for _ in range(2)]
    for network, source in zip(networks, (None, str(find_package_file())), strict=True):
        assert load_pretrained(network, _settings(pretrained=source), LITE0)
    for one, other in zip(*map(backbone_layers, networks), strict=True):
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("preset", ["ssd_compact", "ssd300_vgg16"])
def test_the_others_start_from_random_weights(preset: str) -> None:
    check_pretrained(_settings(), PRESETS[preset])
    assert (
        load_pretrained(model.build_network(PRESETS[preset], 2), _settings(), PRESETS[preset]) == ""
    )


def test_a_folder_is_a_run(tmp_path: Path) -> None:
    assert pretrained_run(_settings(pretrained=str(tmp_path))) == tmp_path
    for other in (None, "none", "imagenet", str(tmp_path / "file.h5")):
        assert pretrained_run(_settings(pretrained=other)) is None
