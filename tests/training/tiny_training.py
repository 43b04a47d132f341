"""`python -m training` with a network that trains in milliseconds, for tests that need processes.

With KILL_AT in the environment the process kills itself with SIGKILL after that step, with KILL_IN
where it calls that function (training.disk.write_file). A worker of several tells at its end what
its weights are. With FORK it does not run once: each line that comes in is the environment of a run
in a fork, which saves TensorFlow's import; what comes out after it is "exit" and its code. The
tests that need no process take `backbone` from here.
"""

import dataclasses
import hashlib
import importlib
import json
import os
import signal
import sys

import numpy as np
import tensorflow as tf
from keras import layers

from training.__main__ import main
from training.evaluation import report, summaries
from training.network import model
from training.network.presets import PRESETS, SSD_COMPACT, Preset
from training.progress import Progress
from training.trainer import Trainer


def backbone(image: tf.Tensor, preset: Preset) -> list[tf.Tensor]:
    """SSD300's six feature maps, of few channels."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.AveragePooling2D(8, padding="same")(x)
    maps = [model.conv(x, "map_0", 8)]  # [B, 38, 38, 8]
    for index in range(1, 5):
        maps.append(model.conv(maps[-1], f"map_{index}", 8, strides=2))  # 19, 10, 5, 3
    return [*maps, model.conv(maps[-1], "map_5", 8, padding="valid")]  # 1


def _advance_or_die(progress: Progress) -> None:
    _advance(progress)
    if progress.step == int(os.environ.get("KILL_AT", -1)):
        _die()


def _train_and_tell(trainer: Trainer) -> None:
    _train(trainer)
    weights = b"".join(np.asarray(weight).tobytes() for weight in trainer.network.weights)
    print("weights", hashlib.sha256(weights).hexdigest(), flush=True)


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run_main() -> int:
    if "KILL_IN" in os.environ:
        module, _, function = os.environ["KILL_IN"].rpartition(".")
        setattr(importlib.import_module(module), function, _die)
    return main(sys.argv[1:])


def _fork_runs() -> None:
    importlib.import_module("training.pipeline.run")
    for line in sys.stdin:
        if not (child := os.fork()):
            os.environ.update(json.loads(line))
            os._exit(_run_main())
        print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def make_tiny() -> None:
    """Let the preset ssd_compact be the network that trains in milliseconds."""
    model.compact = backbone
    report.WORST = summaries.WATCHED = 1  # pictures take longer than all steps
    # Plain gradient descent: Adam would hide a gradient of the wrong size.
    PRESETS["ssd_compact"] = dataclasses.replace(SSD_COMPACT, optimizer="sgd", weight_decay=0.0)


if __name__ == "__main__":
    make_tiny()
    _advance = Progress.advance
    Progress.advance = _advance_or_die  # type: ignore[method-assign,assignment]
    if "TF_CONFIG" in os.environ:
        _train = Trainer.train
        Trainer.train = _train_and_tell  # type: ignore[method-assign,assignment]
    if "FORK" in os.environ:
        _fork_runs()
    sys.exit(_run_main())
