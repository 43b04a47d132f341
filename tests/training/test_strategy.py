import dataclasses
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


def test_devices_are_named() -> None:
    assert strategy.describe_devices(tf.distribute.get_strategy()) == "1 CPU"
    assert strategy.describe_devices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])) == "2 CPUs"


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
