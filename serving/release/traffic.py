"""What a running server tells of an ensemble: how often it was asked, and its defaults."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from client import Detection, Result
from client.errors import from_grpc
from serving.control import CHANNEL
from serving.errors import CompareError
from serving.model_config import read_thresholds

COUNTED = 2  # times that Triton (2.51) counts a request that failed in a step of an ensemble
TIMEOUT = 10.0  # seconds, for the calls that only ask


@dataclass(frozen=True)
class Traffic:
    """What an ensemble was asked since it was last loaded, by anybody.

    A canary is loaded when it starts and when its share is changed, the stable ensemble when a
    canary starts; both when an old version is removed. Triton then counts from 0.

    failed: for any reason: the client's (no photo), a timeout's, or an overloaded server's.
    latency_ms: mean of the answered requests, inside the server; None without any.
    """

    answered: int
    failed: int
    latency_ms: float | None

    @property
    def asked(self) -> int:
        """All of them."""
        return self.answered + self.failed

    @property
    def failed_percent(self) -> float | None:
        """None where nothing was asked."""
        return 100 * self.failed / self.asked if self.asked else None


@dataclass(frozen=True)
class Defaults:
    """What the server takes for what a request leaves out."""

    score_threshold: float
    max_detections: int
    score_thresholds: tuple[float, ...] = ()  # by class; none: score_threshold for all

    def cut(self, result: Result) -> list[Detection]:
        """What a request without parameters would have got, of what one with low ones got."""
        found = [each for each in result.detections if each.score > self._least(each.class_id)]
        return found[: self.max_detections]

    def _least(self, class_id: int) -> float:
        return self.score_thresholds[class_id] if self.score_thresholds else self.score_threshold


def read_traffic(url: str, model: str) -> Traffic:
    """What a model was asked since it was last loaded, from the server's statistics.

    The server's own supervisor is among those who ask. Raises CompareError without such a model.
    """
    with _connect(url) as client:
        if not client.is_model_ready(model, client_timeout=TIMEOUT):
            raise CompareError(
                f"{url} serves no model {model}; `python -m serving canary` starts a canary"
            )
        answer = client.get_inference_statistics(model, client_timeout=TIMEOUT)
    answered = sum(version.inference_stats.success.count for version in answer.model_stats)
    nanoseconds = sum(version.inference_stats.success.ns for version in answer.model_stats)
    failures = sum(version.inference_stats.fail.count for version in answer.model_stats)
    failed = math.ceil(failures / COUNTED)
    return Traffic(answered, failed, nanoseconds / answered / 1e6 if answered else None)


def add_traffic(each: Sequence[Traffic]) -> Traffic:
    """That of several servers together."""
    answered = sum(one.answered for one in each)
    total = sum(one.answered * (one.latency_ms or 0.0) for one in each)
    failed = sum(one.failed for one in each)
    return Traffic(answered, failed, total / answered if answered else None)


def read_defaults(url: str, ensemble: str) -> Defaults:
    """From the configuration of the ensemble's step that has them as parameters."""
    with _connect(url) as client:
        steps = client.get_model_config(ensemble, client_timeout=TIMEOUT).config.ensemble_scheduling
        for step in steps.step:
            config = client.get_model_config(step.model_name, client_timeout=TIMEOUT).config
            if "score_threshold" in config.parameters:
                found = read_thresholds([config])
                most = int(config.parameters["max_detections"].string_value)
                by_class = tuple(found.get("score_thresholds", ()))
                return Defaults(found["score_threshold"], most, by_class)
    raise CompareError(f"{ensemble} has no step with the parameter score_threshold")


@contextmanager
def _connect(url: str) -> Iterator[grpc_client.InferenceServerClient]:
    client = grpc_client.InferenceServerClient(url, channel_args=CHANNEL)
    try:
        yield client
    except InferenceServerException as error:
        raise CompareError(str(from_grpc(error, address=url, image=url, timeout=TIMEOUT))) from None
    finally:
        client.close()
