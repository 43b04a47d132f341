import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from client import InvalidImage, InvalidParameter, Result
from client.ordered import WINDOW, in_order


def numbered(number: int) -> Result:
    return Result((), width=number, height=1)


def widths(outcomes: Iterator[Any]) -> list[int]:
    return [outcome.width for outcome in outcomes]


def test_no_tasks_have_no_outcomes() -> None:
    assert list(in_order([], 3, "raise")) == []


def test_the_order_is_that_of_the_tasks() -> None:
    tasks = [partial(numbered, number) for number in range(1000)]
    assert widths(in_order(tasks, 8, "raise")) == list(range(1000))


def test_one_at_a_time_is_possible() -> None:
    assert widths(in_order([partial(numbered, number) for number in range(5)], 1, "raise")) == [
        *range(5)
    ]


class Slow:
    """The first task waits until it is let go; the others are done at once, and counted."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.done = 0
        self.taken = 0

    def tasks(self) -> Iterator[Callable[[], Result]]:
        while True:
            self.taken += 1
            yield partial(self._run, self.taken)

    def _run(self, number: int) -> Result:
        if number == 1:
            assert self.go.wait(60)
        else:
            self.done += 1
            if self.done == 4 * WINDOW - 1:
                self.go.set()
        return numbered(number)


def test_others_go_on_while_the_first_is_slow_until_the_window_is_full() -> None:
    slow = Slow()
    outcomes = in_order(slow.tasks(), 4, "raise")
    assert slow.taken == 0
    assert next(outcomes).width == 1  # it was let go by the last one of the window
    assert slow.taken == 4 * WINDOW
    assert next(outcomes).width == 2
    outcomes.close()  # type: ignore[attr-defined]


def test_what_a_task_was_about_is_not_held_once_it_is_done() -> None:
    class Image:
        pass

    alive: weakref.WeakSet[Image] = weakref.WeakSet()

    def use(image: Image) -> Result:
        alive.add(image)
        return numbered(1)

    tasks = (partial(use, Image()) for _ in range(200))
    most = max(len(alive) for _ in in_order(tasks, 2, "raise"))
    assert most <= 4  # two under way, and two whose threads are about to let go of them


def test_a_failure_is_raised_in_its_turn_or_returned() -> None:
    def fail() -> Result:
        raise InvalidImage("bad")

    tasks: list[Callable[[], Result]] = [partial(numbered, 1), fail, partial(numbered, 3)]
    outcomes = in_order(tasks, 2, "raise")
    assert next(outcomes).width == 1
    with pytest.raises(InvalidImage, match="bad"):
        next(outcomes)
    assert [type(outcome) for outcome in in_order(tasks, 2, "return")] == [
        Result,
        InvalidImage,
        Result,
    ]


def test_nonsense_is_told_before_the_first_task() -> None:
    with pytest.raises(InvalidParameter, match="concurrency must be 1 or more"):
        in_order([], 0, "raise")
    with pytest.raises(InvalidParameter, match="errors must be"):
        in_order([], 1, "ignore")  # type: ignore[arg-type]
