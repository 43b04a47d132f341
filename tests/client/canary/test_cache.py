"""What a client knows of a canary, and when it asks again."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import canary
from client.canary import Canary
from client.runtime import Threads, finish
from tests.client.canary.names import at
from tests.conftest import wait_until


class Answers:
    """Tells of a canary whose share is the number of times it was asked, in hundredths."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.times = 0
        self.seconds: list[float] = []
        self._gate = gate

    def __call__(self, seconds: float) -> Canary | None:
        self.times += 1
        self.seconds.append(seconds)
        share = self.times / 100
        if self._gate:
            self._gate.wait(10)
        return at(share)


class Cache:
    """The same for threads."""

    def __init__(self, ask: Callable[[float], Canary | None]) -> None:
        async def asked(seconds: float) -> Canary | None:
            return ask(seconds)

        self._cache = canary.CanaryCache(asked, Threads().lock())
        self.expire = self._cache.expire

    def get(self, seconds: float) -> Canary | None:
        return finish(self._cache.get(seconds))


def test_it_is_asked_once_while_the_knowledge_is_fresh() -> None:
    answers = Answers()
    cache = Cache(answers)
    assert {cache.get(10) for _ in range(100)} == {at(0.01)}
    assert answers.times == 1


def test_that_there_is_none_is_knowledge_too() -> None:
    asked: list[float] = []
    cache = Cache(asked.append)  # returns None
    assert [cache.get(10) for _ in range(100)] == [None] * 100
    assert len(asked) == 1


def test_it_is_asked_again_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "CANARY_SECONDS", 0.1)
    cache = Cache(Answers())
    assert cache.get(10) == cache.get(10) == at(0.01)
    wait_until(lambda: cache.get(10) == at(0.02))


def test_what_has_expired_is_asked_again() -> None:
    cache = Cache(Answers())
    assert cache.get(10) == at(0.01)
    cache.expire()
    assert cache.get(10) == cache.get(10) == at(0.02)


def test_asking_takes_a_second_at_most_and_never_more_than_there_is() -> None:
    answers = Answers()
    cache = Cache(answers)
    cache.get(30)
    cache.expire()
    cache.get(0.25)
    assert answers.seconds == [canary.ASK_SECONDS, 0.25]


def test_the_first_time_all_wait_for_the_one_who_asks() -> None:
    gate = threading.Event()
    answers = Answers(gate)
    cache = Cache(answers)
    with ThreadPoolExecutor(16) as pool:
        known = [pool.submit(cache.get, 10) for _ in range(16)]
        wait_until(lambda: answers.times == 1)
        assert not any(future.done() for future in known)
        gate.set()
    assert {future.result() for future in known} == {at(0.01)}
    assert answers.times == 1


def test_the_first_time_none_waits_longer_than_there_is() -> None:
    gate = threading.Event()
    answers = Answers(gate)
    cache = Cache(answers)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(cache.get, 10)
        wait_until(lambda: answers.times == 1)
        assert pool.submit(cache.get, 0.05).result(5) is None
        gate.set()
    assert slow.result() == at(0.01)


def test_later_the_others_go_on_with_what_they_know() -> None:
    gate = threading.Event()
    gate.set()
    answers = Answers(gate)
    cache = Cache(answers)
    cache.get(10)
    gate.clear()
    cache.expire()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(cache.get, 10)
        wait_until(lambda: answers.times == 2)
        assert {cache.get(10) for _ in range(100)} == {at(0.01)}
        gate.set()
        assert asking.result() == at(0.02)
    assert answers.times == 2


def test_a_failure_to_ask_leaves_it_askable() -> None:
    def fails(_: float) -> Canary | None:
        raise ValueError("Cannot invoke RPC on closed channel!")

    cache = Cache(fails)
    for _ in range(2):
        with pytest.raises(ValueError, match="closed channel"):
            cache.get(1)
