"""What a model counts of its requests, for Triton's /metrics.

A counter of Triton's lives in the server, and each increment is a message there and back: 20
microseconds, in which Python's lock is free. So a model counts in its own process, and a thread
hands over what has changed every few seconds. A histogram is handed over as counters, in the
three families that Prometheus knows one by: Triton's own takes a message a value.

This file stands beside each model that counts, since Triton gives a model its own folder only.
"""

import ctypes
import json
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

PERIOD = 5.0  # seconds between two times of handing over, each of which takes some ms of CPU
SHARE = 0.01  # of a core that the thread may take; beyond it hands over less often
LAST_WAIT = 5.0  # seconds for the last time, when the model is unloaded
# A request with this parameter is a check of the service, not a user's: it is not measured.
PROBE = "x-probe"


class Counter:
    """How often something happened."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        """Count it."""
        self.value += amount

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What Prometheus shows of it: the name's ending, labels, value."""
        yield "_total", {}, self.value


class Histogram:
    """How many values fell into each bin.

    Args:
        edges: the largest value of each bin but the last, which has no bound, in order.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """As of a counter; the widest bucket first, so that none ever shows more than a wider."""
        below = list(accumulate(self.counts))  # a copy, whatever is counted meanwhile
        yield "_count", {}, below[-1]
        yield "_sum", {}, self.sum
        bounds = [*(f"{edge:g}" for edge in self.edges), "+Inf"]
        for bound, count in zip(reversed(bounds), reversed(below), strict=True):
            yield "_bucket", {"le": bound}, count


class Measured(NamedTuple):
    """A counter or histogram under the name that it has in /metrics."""

    name: str
    meaning: str
    labels: dict[str, str]
    values: Counter | Histogram


class Reporter:
    """Hands over to Triton what a model counts, in a thread of its own.

    Whatever fails is said once in the server's log, and no request notices.

    Args:
        triton: triton_python_backend_utils.
        model: the model's name, a label of all that it counts.
        measured: what to hand over.
    """

    def __init__(self, triton: Any, model: str, measured: list[Measured]) -> None:
        self._triton = triton
        self._measured = [each._replace(labels={"model": model} | each.labels) for each in measured]
        self._families: dict[str, Any] = {}
        self._metrics: list[Any] = []
        self._handed_over: list[float] = []
        self._failed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def attempt(self, parameters: str, count: Callable[..., None], *values: Any) -> None:
        """Count something of a request, unless it is a check; a failure does not touch it.

        Args:
            parameters: the request's, as JSON; empty where it has none.
            count: called with the values.
        """
        try:
            if PROBE not in json.loads(parameters or "{}"):
                count(*values)
        except Exception as error:
            self._complain(error)

    def stop(self) -> None:
        """Hand over the rest, before the model is unloaded."""
        self._stopping.set()
        self._thread.join(LAST_WAIT)

    def _run(self) -> None:
        try:
            self._register()
            pause = 0.0
            while not self._stopping.wait(pause):
                pause = self._hand_over()
            self._hand_over()
        except Exception as error:  # an older Triton, metrics turned off, ...
            self._complain(error)

    def _register(self) -> None:
        for each in self._measured:
            for ending, labels, _ in each.values.samples():
                family = self._family(each.name + ending, each.meaning)
                self._metrics.append(family.Metric(labels=each.labels | labels))
        self._handed_over = [0.0] * len(self._metrics)

    def _family(self, name: str, meaning: str) -> Any:
        """A family of counters, made when it is first asked for.

        It is never freed, which would delete its counters in Triton (2.51): also for the process
        that is there already when a model is loaded anew, and that then writes where nothing is.
        """
        if name not in self._families:
            kind = self._triton.MetricFamily.COUNTER
            family = self._triton.MetricFamily(name=name, description=meaning, kind=kind)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(family))
            self._families[name] = family
        return self._families[name]

    def _hand_over(self) -> float:
        """Increase Triton's counters by what is new. Returns how long to wait, seconds."""
        started = time.thread_time()
        values = [value for each in self._measured for *_, value in each.values.samples()]
        for index, (metric, value) in enumerate(zip(self._metrics, values, strict=True)):
            if value != self._handed_over[index]:
                metric.increment(value - self._handed_over[index])
                self._handed_over[index] = value
        return max(PERIOD, (time.thread_time() - started) / SHARE)

    def _complain(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            self._triton.Logger.log_error(f"not measured for /metrics: {error!r}")
