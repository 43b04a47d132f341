"""Runs of the command line that are killed with SIGKILL, continued, and compared with one that
was not; on one machine, and as two workers on loopback."""

import dataclasses
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tests.conftest import PROJECT
from training import checkpoints

TINY = Path(__file__).with_name("tiny_training.py")
JOB = PROJECT / "deploy" / "training" / "job.yaml"
STEPS = 8  # four epochs of two steps of four images
WITHIN = 600.0  # seconds for any run; it takes some twenty


@pytest.fixture(scope="module")
def words(records_folder: Path) -> list[str]:
    options = (
        "--epochs 4 --batch-size 4 --learning-rate 1e-3 --warmup-epochs 0 --evaluate-every 2 "
        "--checkpoint-every 1 --precision float32 --preset ssd_compact --repeat-rare 1 "
        "--weigh-rare 0.5"
    )
    return ["train", str(records_folder), *options.split()]


@pytest.fixture(scope="module")
def command(tiny_training: list[str], words: list[str]) -> list[str]:
    return [*tiny_training, *words]


def _run(command: list[str], output: Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [*command, "--output", str(output)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    return done.returncode, done.stdout


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
    words: list[str], uninterrupted: Path, tmp_path: Path
) -> None:
    """As the Job has it, which starts an index again whatever ended it: first the chief loses the
    other, then the other the chief. And what the two workers come to in the end is what one process
    comes to."""
    output = tmp_path / "run"
    ends = _run_job([sys.executable, str(TINY), *words], output, {(1, 0): "3", (0, 1): "5"})
    killed = [end for end in ends if end.code == -signal.SIGKILL]
    lost = [end for end in ends if end.code == os.EX_TEMPFAIL]
    assert [(end.index, end.attempt) for end in killed] == [(1, 0), (0, 1)]
    assert len(lost) + len(killed) + 2 == len(ends), [(end.index, end.code) for end in ends]
    for end in lost:
        assert "error: another worker is lost, or cannot be reached (" in end.text
        assert "start all workers again" in end.text
        assert "Traceback" not in end.text
    assert {end.index for end in lost} == {0, 1}
    assert "The last checkpoint is that of step 2" in _last(lost, 0)
    assert "The last checkpoint is that of step 4" in _last(lost, 1)
    well = [end for end in ends if end.code == 0]
    assert "at step 4 of 8" in _last(well, 0)
    [one], [other] = (re.findall("^weights (.*)$", _last(well, i), re.MULTILINE) for i in (0, 1))
    assert one == other
    assert json.loads((output / "metrics.json").read_text())["images"] == 4
    assert (output / "report" / "index.html").exists()
    _assert_same_numbers(_variables(output), _variables(uninterrupted))


def _last(ends: list["End"], index: int) -> str:
    return next(end.text for end in reversed(ends) if end.index == index)


@dataclasses.dataclass(frozen=True)
class End:
    """How a pod's process ended."""

    index: int
    attempt: int
    code: int
    text: str


def _run_job(command: list[str], output: Path, kills: dict[tuple[int, int], str]) -> list[End]:
    """Until both indexes have ended well; who kills itself at which step, by index and attempt."""
    address = f"127.0.0.1:{_free_tens()}{{index}}"
    ends: list[End] = []
    with ThreadPoolExecutor() as pool:

        def keep_alive(index: int) -> None:
            for attempt in range(6):
                kill = {"KILL_AT": kills[index, attempt]} if (index, attempt) in kills else {}
                words = _as_the_manifest_says(command, address)
                code, text = _run(words, output, JOB_COMPLETION_INDEX=str(index), **kill)
                ends.append(End(index, attempt, code, text))
                if code == 0:
                    return

        for done in [pool.submit(keep_alive, index) for index in (0, 1)]:
            done.result()
    return ends


def _as_the_manifest_says(command: list[str], address: str) -> list[str]:
    """The command of deploy/training/job.yaml with this training, and what it has elsewhere."""
    [job, *_] = yaml.safe_load_all(JOB.read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    start, train_words = container["command"], container["args"]
    assert start[-1] == "--"
    assert train_words == ["python", "-m", "training", "train", *train_words[4:]]
    assert train_words[5] == "--output"
    assert start[0] == "python"
    places = {"train-{index}.train:2222": address}
    return [sys.executable, *(places.get(word, word) for word in start[1:]), *command]


def _free_tens() -> int:
    """Of two ports that differ in their last digit, 0 and 1, all digits but that."""
    while True:
        tens = random.SystemRandom().randrange(2000, 3200)
        try:
            for index in (0, 1):
                socket.create_server(("127.0.0.1", 10 * tens + index)).close()
        except OSError:
            continue
        return tens


def _assert_same_numbers(one: dict[str, Any], other: dict[str, Any]) -> None:
    """But for the order of sums, and for hard negatives that tie and change places."""
    parts = ("optimizer/_trainable_variables/", "average/")  # the weights, and their average
    kernels = [name for name in other if name.startswith(parts) and other[name].ndim == 4]
    assert {name.partition("/")[0] for name in kernels} == {"optimizer", "average"}
    for name in kernels:
        np.testing.assert_allclose(one[name], other[name], rtol=0.01, atol=1e-3, err_msg=name)
