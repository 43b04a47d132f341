import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from training import strategy
from training.errors import TrainingError


@dataclasses.dataclass
class Resolver:
    """What a worker of a cluster says of itself."""

    task_type: str
    task_id: int
    jobs: tuple[str, ...]

    def cluster_spec(self) -> tf.train.ClusterSpec:
        return tf.train.ClusterSpec({job: ["127.0.0.1:1"] for job in self.jobs})


@pytest.mark.parametrize(
    ("resolver", "chief"),
    [
        (None, True),
        (Resolver("worker", 0, ("worker",)), True),
        (Resolver("worker", 1, ("worker",)), False),
        (Resolver("chief", 0, ("chief", "worker")), True),
        (Resolver("worker", 0, ("chief", "worker")), False),
    ],
)
def test_a_cluster_has_one_chief(resolver: Resolver | None, chief: bool) -> None:
    assert strategy.is_chief(SimpleNamespace(cluster_resolver=resolver)) == chief


def test_devices_are_named(two_replicas: tf.distribute.Strategy) -> None:
    assert strategy.describe_devices(tf.distribute.get_strategy()) == "1 CPU"
    assert strategy.describe_devices(two_replicas) == "2 CPUs"


@pytest.mark.parametrize("text", ["{", "3", "cluster"])
def test_another_tf_config(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(TrainingError, match="TF_CONFIG in the environment must be JSON"):
        strategy.in_cluster()


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            "Graph execution error:\n\n{{node a}} Collective ops is aborted by: reset\nmore",
            "Collective ops is ab",
        ),
        ("something\nelse", "UnavailableError"),
    ],
)
def test_of_an_error_the_telling_line_is_shown(message: str, cause: str) -> None:
    assert strategy.cause(tf.errors.UnavailableError(None, None, message)).startswith(cause)


def test_what_a_lost_worker_raises_is_told_in_a_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lost = tf.errors.UnavailableError(None, None, "connection reset by peer")
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(tf.errors.UnavailableError), strategy.telling_losses(tmp_path):
        raise lost
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    with (
        pytest.raises(
            strategy.WorkerLostError, match=r"reset by peer.*There is no checkpoint"
        ) as told,
        strategy.telling_losses(tmp_path),
    ):
        raise lost
    assert told.value.exit_code == 75  # which deploy/training/job.yaml names


@dataclasses.dataclass
class Cluster:
    """Two workers whose steps have this sum."""

    total: int
    num_replicas_in_sync: int = 2

    def run(self, add: object) -> int:
        return self.total

    def experimental_local_results(self, value: int) -> tuple[int]:
        return (value,)


def test_workers_that_see_other_checkpoints_do_not_train(
    monkeypatch: pytest.MonkeyPatch, two_replicas: tf.distribute.Strategy
) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    strategy.meet_workers(two_replicas, 4)
    strategy.meet_workers(Cluster(8), 4)
    with pytest.raises(strategy.WorkerLostError, match="is at step 4, the mean of all is 3: they"):
        strategy.meet_workers(Cluster(6), 4)
