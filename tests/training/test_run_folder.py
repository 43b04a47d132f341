import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny_training import backbone
from training import checkpoints, run_folder
from training.errors import TrainingError
from training.network import model
from training.network.presets import PRESETS, SSD_COMPACT, Preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_comes_back_from_json(preset: Preset) -> None:
    changed = dataclasses.replace(
        preset, scales=tuple(0.9 * s for s in preset.scales), widths=(("fc6", 64), ("fc7", 48))
    )
    description = json.loads(json.dumps({"preset": dataclasses.asdict(changed)}))
    assert run_folder.preset_from(description) == changed


def test_a_preset_of_before_there_were_widths() -> None:
    fields = dataclasses.asdict(SSD_COMPACT)
    del fields["widths"]
    assert run_folder.preset_from({"preset": fields}) == SSD_COMPACT


@pytest.mark.parametrize("description", [{}, {"preset": None}, {"preset": {"name": "a"}}])
def test_a_preset_of_another_version_is_refused(description: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="records no preset of this version"):
        run_folder.preset_from(description)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"run.json does not exist"):
        run_folder.load_network(tmp_path)


def test_one_training_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused = pytest.raises(TrainingError, match=r"run: another training is at work there")
    with run_folder.alone_in(run), refused, run_folder.alone_in(run):
        pass
    with run_folder.alone_in(run):
        pass


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    description = {"preset": dataclasses.asdict(PRESETS["ssd_compact"]), "labels": ["cell"]}
    run_folder.write_json(tmp_path / "run.json", description)
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        run_folder.load_network(tmp_path)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a tiny network for three classes, with one checkpoint."""
    monkeypatch.setattr(model, "compact", backbone)
    network = model.build_network(SSD_COMPACT, 3)
    description = {"preset": dataclasses.asdict(SSD_COMPACT), "labels": ["a", "b", "c"]}
    run_folder.write_json(tmp_path / "run.json", description)
    checkpoints.save_checkpoint(tf.train.Checkpoint(average=network), tmp_path / "checkpoints", 7)
    return tmp_path


def test_starting_from_a_run_takes_all_its_weights(run: Path) -> None:
    network = model.build_network(SSD_COMPACT, 3)
    assert run_folder.start_from(network, run) == f"starting from {run}"
    source, *_ = run_folder.load_network(run)
    for ours, theirs in zip(network.weights, source.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_for_other_labels_gives_all_but_what_names_them(run: Path) -> None:
    network = model.build_network(SSD_COMPACT, 5)
    before = np.array(network.get_layer("logits_0").kernel)
    heads = ", ".join(f"logits_{index}" for index in range(6))
    assert run_folder.start_from(network, run).endswith(f"; random: {heads}")
    np.testing.assert_array_equal(network.get_layer("logits_0").kernel, before)
    source, *_ = run_folder.load_network(run)
    for name in ("map_3", "offsets_0"):
        np.testing.assert_array_equal(network.get_layer(name).kernel, source.get_layer(name).kernel)


def test_a_run_of_another_network_is_refused(run: Path) -> None:
    network = model.build_network(dataclasses.replace(SSD_COMPACT, name="ssd300_vgg16"), 3)
    before = network.get_weights()
    with pytest.raises(TrainingError, match="with other layers, first conv1_1"):
        run_folder.start_from(network, run)
    np.testing.assert_array_equal(network.get_weights()[0], before[0])
