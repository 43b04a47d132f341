"""Where the time of a server's answers goes, from what it counts."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from client.service.description import Step
from client.service.questions import SECONDS, find_gateway

LATE_SECONDS = 0.2  # Triton counts a request after it has answered it


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Where a step's time went: milliseconds per request, the mean of `requests`.

    A request that shared a batch counts with the whole batch's time. Under other traffic the mean
    is that of all requests in between, not of one's own.
    """

    model: str
    version: str
    requests: int
    queue_ms: float  # waiting
    input_ms: float  # gathering the input
    infer_ms: float  # the work itself
    output_ms: float  # handing over the output

    @property
    def total_ms(self) -> float:
        """All four."""
        return self.queue_ms + self.input_ms + self.infer_ms + self.output_ms


Totals = Mapping[Step, np.ndarray]  # int64 [5]: requests; ns waiting, and of input, infer, output
NOTHING = np.zeros(5, np.int64)


def totals(client: InferenceServerClient, seconds: float = SECONDS) -> Totals | None:
    """Return what each version of each model has counted since it was loaded, None if not told.

    Through a gateway it is not: the next answer may be another server's count.
    """
    return None if find_gateway(client, seconds) else _count(client, seconds)


def _count(client: InferenceServerClient, seconds: float) -> Totals | None:
    try:
        answer = client.get_inference_statistics(client_timeout=seconds)
    except InferenceServerException:
        return None
    return {
        Step(counted.name, counted.version): _numbers(counted.inference_stats)
        for counted in answer.model_stats
    }


def step_times(
    client: InferenceServerClient,
    before: Totals | None,
    steps: tuple[Step, ...],
    seconds: float = SECONDS,
) -> tuple[StepTimes, ...]:
    """Return where the time went since `before`, for the steps that have answered since.

    Args:
        client: the server that answered; another one behind the same address counts for itself.
        before: of `totals`, before one's own request; {} for all since the models were loaded.
        steps: of `Service.answered`.
        seconds: that a question to the server may take.
    """
    if before is None or find_gateway(client, seconds):
        return ()
    late = time.monotonic() + LATE_SECONDS
    while (after := _count(client, seconds)) is not None:
        times = _times(before, after, steps)
        if len(times) == len(steps) or time.monotonic() > late:
            return times
        time.sleep(0.005)
    return ()


def _numbers(counted: Any) -> np.ndarray:
    parts = (counted.queue, counted.compute_input, counted.compute_infer, counted.compute_output)
    return np.array([counted.success.count, *(part.ns for part in parts)], np.int64)


def _times(before: Totals, after: Totals, steps: tuple[Step, ...]) -> tuple[StepTimes, ...]:
    """Return the times of the steps that have answered in between."""
    found = []
    for step in steps:
        count, *ns = (after.get(step, NOTHING) - before.get(step, NOTHING)).tolist()
        if count > 0:  # a model that was loaded anew has fewer than before
            mean = (part / count / 1e6 for part in ns)
            found.append(StepTimes(step.model, str(step.version), count, *mean))
    return tuple(found)
