"""The devices that train together, on this machine or on several.

Several machines are told of each other by TF_CONFIG, as in TensorFlow's guide "Multi-worker
training with Keras": each runs the same command over the same, shared run folder.
"""

import atexit
import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from training import run_folder
from training.errors import TrainingError

# What the others' steps end in when a machine is gone: its connections break, or its heartbeats
# stop, and TensorFlow's coordination service gives it up after 10 s.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
_TELLING = re.compile("abort|unavailable|timeout|crash|reset|refused|closed", re.IGNORECASE)


class WorkerLostError(TrainingError):
    """Another machine is gone: this one cannot go on, and the run can be continued by all."""

    exit_code = os.EX_TEMPFAIL  # by which a cluster tells it from a failure of this one


@contextlib.contextmanager
def telling_losses(output: Path) -> Iterator[None]:
    """Tell in words what TensorFlow says in a cluster when another worker is lost.

    Raises:
        WorkerLostError: it is.
    """
    try:
        yield
    except LOST as error:
        if not in_cluster():
            raise
        raise WorkerLostError(
            f"another worker is lost, or cannot be reached ({cause(error)}). "
            f"{run_folder.last_checkpoint_text(output)}: start all workers again "
            "with the same command"
        ) from None


def meet_workers(strategy: tf.distribute.Strategy, step: int) -> None:
    """Wait until all workers are here, at the same step.

    Raises:
        WorkerLostError: one is at another step, for its storage shows older checkpoints.
    """

    @tf.function
    def add() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.constant(step, tf.int64))

    if not in_cluster():
        return
    sums = strategy.run(add)
    mean = int(strategy.experimental_local_results(sums)[0]) / strategy.num_replicas_in_sync
    if mean != step:
        raise WorkerLostError(
            f"this worker is at step {step}, the mean of all is {mean:g}: they do not see the same "
            "checkpoints. Start all again when the storage shows each of them the same files"
        )


def cause(error: tf.errors.OpError) -> str:
    """The telling line of TensorFlow's many."""
    message = re.sub(r"\{\{.*?\}\}", "", str(error.message))  # names of nodes
    lines = [line.strip() for line in message.splitlines()]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or [type(error).__name__])[0][:200]


def choose_devices(logical_cpus: int) -> tf.distribute.Strategy:
    """All machines of TF_CONFIG, else all GPUs, else this CPU."""
    if logical_cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        tf.config.set_logical_device_configuration(cpu, parts)
        return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(logical_cpus)])
    if in_cluster():
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def in_cluster() -> bool:
    return "cluster" in _tf_config()


def _tf_config() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise TrainingError(f"TF_CONFIG in the environment must be JSON, got {text!r}") from None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run folder; of a cluster exactly one does."""
    resolver = strategy.cluster_resolver
    if not resolver or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return (resolver.task_type, resolver.task_id) == ("chief" if has_chief else "worker", 0)


def choose_folder(output: Path, chief: bool) -> Path:
    """Where to save: every worker must, but only the chief's files count (TensorFlow's guide)."""
    if chief:
        return output
    folder = tempfile.mkdtemp(prefix="training-checkpoints-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """How many devices of which kind."""
    count = strategy.num_replicas_in_sync
    if count > 1:
        devices = strategy.extended.worker_devices
    else:
        devices = [device.name for device in tf.config.list_logical_devices()]
    kind = "GPU" if any("GPU" in device for device in devices) else "CPU"
    return f"{count} {kind}{'s' if count > 1 else ''}"
