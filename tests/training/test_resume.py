"""Runs of the command line that are killed with SIGKILL, continued, and compared with one that
was not; on one machine, and as two workers on loopback."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training import checkpoints, train

TINY = Path(__file__).with_name("tiny_training.py")
STEPS = 8  # four epochs of two steps of four images
WITHIN = 600.0  # seconds for any run; it takes some twenty
LOST_WITHIN = 120.0  # seconds in which a worker that lost the other ends; 2 to 16 were measured


@pytest.fixture(scope="module")
def command(records_folder: Path) -> list[str]:
    options = (
        "--epochs 4 --batch-size 4 --learning-rate 1e-3 --warmup-epochs 0 --evaluate-every 2 "
        "--checkpoint-every 1 --precision float32 --preset ssd_compact"
    )
    return [sys.executable, str(TINY), "train", str(records_folder), *options.split()]


def _start(command: list[str], output: Path, **environment: str) -> subprocess.Popen[str]:
    project = str(Path(train.__file__).parent.parent)
    return subprocess.Popen(
        [*command, "--output", str(output)],
        env=os.environ | {"PYTHONPATH": project} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(command: list[str], output: Path, **environment: str) -> tuple[int, str]:
    process = _start(command, output, **environment)
    text, _ = process.communicate(timeout=WITHIN)
    return process.returncode, text


@pytest.fixture(scope="module")
def uninterrupted(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "run"
    code, text = _run(command, output)
    assert code == 0, text
    assert "epoch 4: step 8/8, loss" in text  # a line an epoch, in what is no terminal
    assert (output / "report" / "index.html").exists()
    return output


def _scalars(output: Path, tag: str) -> dict[int, float]:
    """Of all event files, by step; no step may have two."""
    found: dict[int, float] = {}
    for path in sorted((output / "tensorboard").iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.tag == tag:
                    assert event.step not in found
                    found[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def _variables(output: Path) -> dict[str, np.ndarray]:
    newest = checkpoints.newest_whole(output / "checkpoints")
    assert newest is not None
    assert checkpoints.step_of(newest) == STEPS
    reader = tf.train.load_checkpoint(str(newest))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    return {name: reader.get_tensor(name) for name in names}


def test_a_killed_run_ends_as_if_it_had_not_been(
    command: list[str], uninterrupted: Path, tmp_path: Path
) -> None:
    """Bit for bit: weights, momentum, average, and the curves."""
    killed_at = random.SystemRandom().randrange(3, STEPS)
    output = tmp_path / "run"
    code, text = _run(command, output, KILL_AT=str(killed_at))
    assert code == -signal.SIGKILL, text
    code, text = _run(command, output)
    assert code == 0, text
    assert f"at step {killed_at - 1 if killed_at % 2 else killed_at - 2} of 8" in text
    wanted, found = _variables(uninterrupted), _variables(output)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=f"{name}, killed at {killed_at}")
    for tag in ("val/mAP@0.5", "val/mAP@[.5:.95]", "train/loss"):
        curve = _scalars(uninterrupted, tag)
        assert len(curve) >= 2
        assert {k: v for k, v in _scalars(output, tag).items() if k in curve} == curve


def test_a_lost_worker_ends_the_other_and_both_continue(
    command: list[str], uninterrupted: Path, tmp_path: Path
) -> None:
    """First the chief loses the other, then the other the chief. And what the two workers come to
    in the end is what one process comes to."""
    output = tmp_path / "run"
    _lose(1, at=3, workers=_start_pair(command, output, {1: {"KILL_AT": "3"}}))
    text = _lose(0, at=5, workers=_start_pair(command, output, {0: {"KILL_AT": "5"}}))
    assert "at step 2 of 8" in text
    workers = _start_pair(command, output, {})
    texts = [worker.communicate(timeout=WITHIN)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(texts)
    assert "at step 4 of 8" in texts[0]
    assert json.loads((output / "metrics.json").read_text())["images"] == 4
    _assert_same_numbers(_variables(output), _variables(uninterrupted))


def _lose(victim: int, at: int, workers: list[subprocess.Popen[str]]) -> str:
    """One kills itself; what the other says then."""
    other = workers[1 - victim]
    assert workers[victim].wait(timeout=WITHIN) == -signal.SIGKILL
    text, _ = other.communicate(timeout=LOST_WITHIN)
    workers[victim].communicate()
    assert other.returncode == 1, text
    assert "error: another worker is lost, or cannot be reached (" in text
    assert f"The last checkpoint is that of step {at - 1}: start all workers again" in text
    assert "Traceback" not in text
    return text


def _start_pair(
    command: list[str], output: Path, environments: dict[int, dict[str, str]]
) -> list[subprocess.Popen[str]]:
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    return [
        _start(
            command, output, TF_CONFIG=_tf_config(addresses, index), **environments.get(index, {})
        )
        for index in (0, 1)
    ]


def _tf_config(addresses: list[str], index: int) -> str:
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _assert_same_numbers(one: dict[str, Any], other: dict[str, Any]) -> None:
    """But for the order of sums, and for hard negatives that tie and change places."""
    parts = ("optimizer/_trainable_variables/", "average/")  # the weights, and their average
    kernels = [name for name in other if name.startswith(parts) and other[name].ndim == 4]
    assert {name.partition("/")[0] for name in kernels} == {"optimizer", "average"}
    for name in kernels:
        np.testing.assert_allclose(one[name], other[name], rtol=0.01, atol=1e-3, err_msg=name)
