"""The loops: what they count."""

import itertools
import time

import pytest

from benchmarks.load.loops import arrivals, closed_loop, open_loop
from benchmarks.load.transport import Answer, clock


def ok(answer: Answer) -> str:
    return answer.status


class Slow:
    """A transport over a server that answers one request after the other, `pause` seconds each."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.waiting: list[tuple[int, float]] = []
        self.most = 0

    def send(self, number: int, began: float) -> None:
        self.waiting.append((number, began))
        self.most = max(self.most, len(self.waiting))

    def wait(self, seconds: float) -> list[Answer]:
        if not self.waiting or seconds < self.pause:
            time.sleep(min(max(seconds, 0), 0.001))
            return []
        time.sleep(self.pause)
        number, began = self.waiting.pop(0)
        return [Answer(number, began, clock(), "OK", b"")]

    def close(self) -> None:
        self.waiting.clear()


class Refusing(Slow):
    """Answers nothing but refusals."""

    def wait(self, seconds: float) -> list[Answer]:
        return [answer._replace(status="UNAVAILABLE") for answer in super().wait(seconds)]


class Stuck(Slow):
    """Its very sending takes long: the generator itself falls behind."""

    def send(self, number: int, began: float) -> None:
        time.sleep(0.05)
        super().send(number, began)


def test_closed_loop_keeps_as_many_under_way_as_asked() -> None:
    transport = Slow(0.002)
    found = closed_loop(transport, itertools.count(), ok, 3, seconds=0.1, ramp=0.05)
    assert transport.most == 3
    assert not transport.waiting
    assert found["completed"] == len(found["latencies_ms"]) < found["total"]
    assert found["verdicts"] == {"OK": found["total"]}


def test_closed_loop_sends_a_given_number() -> None:
    transport = Slow(0.001)
    found = closed_loop(transport, iter(range(7)), ok, 3, seconds=float("inf"), ramp=0.0)
    assert found["total"] == found["completed"] == 7


def test_closed_loop_of_no_photos() -> None:
    found = closed_loop(Slow(0.001), iter(()), ok, 3, seconds=float("inf"), ramp=0.0)
    assert found["total"] == found["completed"] == 0


def test_open_loop_counts_latency_from_the_time_a_request_was_meant_to_go_out() -> None:
    pause, count = 0.02, 5
    found = open_loop(Slow(pause), itertools.count(), ok, [0.0] * count)
    latencies = sorted(found["latencies_ms"])
    assert len(latencies) == count
    for place, ms in enumerate(latencies, start=1):  # each waits for all before it
        assert ms >= 1000 * pause * place


def test_open_loop_does_not_hide_that_the_generator_is_late() -> None:
    found = open_loop(Stuck(0.0), itertools.count(), ok, [0.0, 0.001, 0.002])
    assert min(found["latencies_ms"]) >= 50
    assert max(found["latencies_ms"]) >= 140
    assert max(found["lateness_ms"]) >= 140


def test_open_loop_tells_when_failures_came() -> None:
    found = open_loop(Refusing(0.02), itertools.count(), ok, [0.0] * 2)
    assert found["latencies_ms"] == []
    assert min(found["failed_ms"]) >= 20


def test_open_loop_of_no_requests() -> None:
    assert open_loop(Slow(0.0), itertools.count(), ok, [])["total"] == 0


def test_arrivals() -> None:
    assert arrivals(4, 1.0, poisson=False) == [0, 0.25, 0.5, 0.75]
    times = arrivals(1000, 2.0, poisson=True)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 2
    assert len(times) == pytest.approx(2000, rel=0.15)
    assert times != arrivals(1000, 2.0, poisson=True, seed=1)
