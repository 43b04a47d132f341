"""Real training steps on rendered smears: resumed, on two replicas, on two machines."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training import records, run_folder, train
from training.errors import TrainingError
from training.presets import SSD_COMPACT

STEPS = 3


def _settings(records_folder: Path, output: Path, **changes: Any) -> train.TrainSettings:
    """One epoch is two steps of four images."""
    defaults = train.TrainSettings(
        records_folder,
        output,
        epochs=2,
        batch_size=4,
        learning_rate=1e-3,
        evaluate_every=0,
        checkpoint_every=1,
    )
    return dataclasses.replace(defaults, **changes)


def _trainer(settings: train.TrainSettings, strategy: tf.distribute.Strategy) -> train.Trainer:
    manifest = records.load_manifest(settings.records, "train")
    schedule = train.plan(settings, SSD_COMPACT, manifest.count)
    return train.Trainer(settings, SSD_COMPACT, schedule, manifest, strategy)


def _losses(trainer: train.Trainer, skip: int = 0, steps: int = STEPS) -> list[list[float]]:
    batches = iter(trainer._batches(skip))
    found = [trainer.train_step(next(batches)) for _ in range(steps)]
    return [[float(losses[key]) for key in sorted(losses)] for losses in found]


@pytest.fixture(scope="module")
def one_replica(
    records_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[train.Trainer, list[list[float]]]:
    settings = _settings(records_folder, tmp_path_factory.mktemp("one"))
    trainer = _trainer(settings, tf.distribute.get_strategy())
    return trainer, _losses(trainer)


def test_two_replicas_give_the_numbers_of_one(
    records_folder: Path, tmp_path: Path, one_replica: tuple[train.Trainer, list[list[float]]]
) -> None:
    alone, losses = one_replica
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    both = _trainer(_settings(records_folder, tmp_path), mirrored)
    np.testing.assert_allclose(_losses(both), losses, rtol=2e-3)
    for one, two in zip(alone.network.weights, both.network.weights, strict=True):
        # Adam moves each weight by about the learning rate, so a step in the other direction,
        # where a gradient is all rounding, is at most twice that apart.
        np.testing.assert_allclose(one, two, atol=STEPS * 2 * 1e-3, rtol=2e-2, err_msg=one.path)


def test_training_learns(one_replica: tuple[train.Trainer, list[list[float]]]) -> None:
    trainer, losses = one_replica
    assert np.isfinite(losses).all()
    assert trainer.step == STEPS


def test_a_resumed_run_continues_where_it_stopped(
    records_folder: Path, tmp_path: Path, one_replica: tuple[train.Trainer, list[list[float]]]
) -> None:
    _, straight = one_replica
    strategy = tf.distribute.get_strategy()
    first = _trainer(_settings(records_folder, tmp_path), strategy)
    assert _losses(first, steps=2) == pytest.approx(np.array(straight[:2]), rel=1e-3)
    first.checkpoints.save(checkpoint_number=2)
    resumed = _trainer(_settings(records_folder, tmp_path), strategy)
    assert resumed.step == 2
    np.testing.assert_allclose(_losses(resumed, skip=2 * 4, steps=1), straight[2:], rtol=1e-2)


def test_a_batch_must_divide_over_the_devices(records_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="multiple of the 2 devices, got 3"):
        train.run(_settings(records_folder, tmp_path, batch_size=3, logical_cpus=2))


def test_other_settings_do_not_continue_a_run(records_folder: Path, tmp_path: Path) -> None:
    settings = _settings(records_folder, tmp_path)
    manifest = records.load_manifest(records_folder, "train")
    train._open_run(settings, manifest)
    train._open_run(settings, manifest)
    with pytest.raises(TrainingError, match=r"--epochs \(was 2, now 9\)"):
        train._open_run(dataclasses.replace(settings, epochs=9), manifest)


def test_nothing_to_do_in_a_complete_run(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = _settings(records_folder, tmp_path, epochs=1)
    trainer = _trainer(settings, tf.distribute.get_strategy())
    trainer.optimizer.iterations.assign(trainer.schedule.total_steps)
    trainer.train()
    assert "complete" in capsys.readouterr().out


def test_checkpoints_need_a_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"run.json does not exist"):
        run_folder.load_network(tmp_path)


def test_two_workers_train_together(records_folder: Path, tmp_path: Path) -> None:
    """The command line under MultiWorkerMirroredStrategy, as two processes on loopback."""
    workers = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    processes = [_start_worker(records_folder, tmp_path, workers, index) for index in (0, 1)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert json.loads((tmp_path / "metrics.json").read_text())["images"] == 4
    network, *_ = run_folder.load_network(tmp_path)
    assert all(np.isfinite(weight).all() for weight in network.weights)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _start_worker(
    records_folder: Path, output: Path, workers: list[str], index: int
) -> subprocess.Popen[str]:
    cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    command = [sys.executable, "-m", "training", "train", str(records_folder)]
    command += ["--output", str(output), "--epochs", "1", "--batch-size", "4"]
    return subprocess.Popen(
        [*command, "--evaluate-every", "1", "--checkpoint-every", "1"],
        env=os.environ | {"TF_CONFIG": json.dumps(cluster)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
