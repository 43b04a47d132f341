"""`python -m training` with a network that trains in milliseconds, for tests that need processes.

With SERVE in the environment it forks for each command that it is told at this address, with the
environment, folder and outputs of who tells it: TensorFlow's start takes longer than most commands.
`start_trainer` gives the words that tell it, in place of `python -m training`.

With KILL_AT in the environment a command kills itself with SIGKILL after that step, with KILL_IN
where it calls that function (training.disk.write_file). A worker of several tells at its end what
its weights are. The tests that need no process take `backbone` from here.
"""

import dataclasses
import hashlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras import layers

from training.__main__ import COMMANDS, main
from training.evaluation import report, summaries
from training.network import model
from training.network.presets import PRESETS, SSD_COMPACT, Preset
from training.progress import Progress
from training.trainer import Trainer

PROJECT = Path(__file__).parents[2]
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as trainer:
    trainer.connect(sys.argv[1])
    told = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)])
    socket.send_fds(trainer, [told.encode()], [1, 2])
    code = int(trainer.recv(16) or 1)
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""


def backbone(image: tf.Tensor, preset: Preset) -> list[tf.Tensor]:
    """SSD300's six feature maps, of few channels."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.AveragePooling2D(8, padding="same")(x)
    maps = [model.conv(x, "map_0", 8)]  # [B, 38, 38, 8]
    for index in range(1, 5):
        maps.append(model.conv(maps[-1], f"map_{index}", 8, strides=2))  # 19, 10, 5, 3
    return [*maps, model.conv(maps[-1], "map_5", 8, padding="valid")]  # 1


_advance, _train = Progress.advance, Trainer.train


def _advance_or_die(progress: Progress) -> None:
    _advance(progress)
    if progress.step == int(os.environ.get("KILL_AT", -1)):
        _die()


def _train_and_tell(trainer: Trainer) -> None:
    _train(trainer)
    if "TF_CONFIG" not in os.environ:
        return
    weights = b"".join(np.asarray(weight).tobytes() for weight in trainer.network.weights)
    print("weights", hashlib.sha256(weights).hexdigest(), flush=True)


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_tiny() -> None:
    """Let the preset ssd_compact be the network that trains in milliseconds."""
    model.compact = backbone
    report.WORST = summaries.WATCHED = 0  # drawing photos takes longer than all steps
    # Plain gradient descent: Adam would hide a gradient of the wrong size.
    PRESETS["ssd_compact"] = dataclasses.replace(SSD_COMPACT, optimizer="sgd", weight_decay=0.0)
    Progress.advance = _advance_or_die  # type: ignore[method-assign,assignment]
    Trainer.train = _train_and_tell  # type: ignore[method-assign,assignment]


@contextmanager
def start_trainer(folder: Path) -> Iterator[list[str]]:
    """The words that stand for `python -m training` meanwhile; its socket lies in the folder."""
    address = str(folder / "socket")
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "SERVE": address}
    with subprocess.Popen(
        [sys.executable, __file__],
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        try:
            yield [sys.executable, "-c", CLIENT, address]
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _serve(address: str) -> None:
    for command in COMMANDS.values():
        importlib.import_module(f"training.{command.module}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                if not os.fork():
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    connection.send(str(_run_in_fork(connection)).encode())
                    os._exit(0)


def _run_in_fork(connection: socket.socket) -> int:
    """Its exit code; below 0 that of the signal that ended it."""
    told, outputs, _, _ = socket.recv_fds(connection, 2**17, 2)
    if not (child := os.fork()):
        words, folder, environment = json.loads(told)
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        code = 1
        try:
            code = _run_main(words)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)  # else TensorFlow waits for threads that a fork does not have
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run_main(words: list[str]) -> int:
    if "KILL_IN" in os.environ:
        module, _, function = os.environ["KILL_IN"].rpartition(".")
        setattr(importlib.import_module(module), function, _die)
    return main(words)


if __name__ == "__main__":
    make_tiny()
    if "SERVE" in os.environ:
        _serve(os.environ["SERVE"])
    sys.exit(_run_main(sys.argv[1:]))
