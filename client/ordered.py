"""Many tasks at once, their outcomes in the order of the tasks, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from client.detection import Result
from client.errors import DetectorError, InvalidParameter

Errors = Literal["raise", "return"]


def in_order(
    tasks: Iterable[Callable[[], Result]], concurrency: int, errors: Errors
) -> Iterator[Any]:
    """Run tasks in threads and yield what becomes of them, in their order.

    The tasks are taken from the iterable as the outcomes are consumed, never more than
    `concurrency` ahead, so it may be endless and memory stays bounded.

    Args:
        tasks: each returns a Result or raises.
        concurrency: tasks under way at once, 1 or more.
        errors: "raise" raises the first failing task's error in its turn and ends; "return" yields
            a DetectorError in that task's place and goes on.

    Raises:
        InvalidParameter: at once, before the first task: concurrency or errors is none of these.
    """
    if concurrency < 1:
        raise InvalidParameter(f"concurrency must be 1 or more, but got {concurrency}")
    if errors not in ("raise", "return"):
        raise InvalidParameter(f'errors must be "raise" or "return", but got {errors!r}')
    return _outcomes(tasks, concurrency, _result if errors == "raise" else _result_or_error)


def _outcomes(
    tasks: Iterable[Callable[[], Result]],
    concurrency: int,
    outcome: Callable[[Future[Result]], Any],
) -> Iterator[Any]:
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="detector")
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(task))
            if len(waiting) == concurrency:
                yield outcome(waiting.popleft())
        while waiting:
            yield outcome(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(outcome: Future[Result]) -> Result:
    return outcome.result()


def _result_or_error(outcome: Future[Result]) -> Result | DetectorError:
    try:
        return outcome.result()
    except DetectorError as error:
        return error
