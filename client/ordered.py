"""Many tasks at once, their outcomes in the order of the tasks, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Literal

from client.detection import Result
from client.errors import DetectorError, InvalidParameter

Errors = Literal["raise", "return"]
# Outcomes that may wait for a slow one before them, per task under way: a few kB each.
WINDOW = 16


def in_order(
    tasks: Iterable[Callable[[], Result]], concurrency: int, errors: Errors
) -> Iterator[Any]:
    """Run tasks in threads and yield what becomes of them, in their order.

    The tasks are taken from the iterable as the outcomes are consumed, each when a thread is free
    for it, so it may be endless. While one task is slow the others go on, until `WINDOW *
    concurrency` outcomes wait for it: memory stays bounded.

    Args:
        tasks: each returns a Result or raises.
        concurrency: tasks under way at once, 1 or more.
        errors: "raise" raises the first failing task's error in its turn and ends; "return" yields
            a DetectorError in that task's place and goes on.

    Raises:
        InvalidParameter: at once, before the first task: concurrency or errors has another value.
    """
    check_options(concurrency, errors)
    return _outcomes(tasks, concurrency, _result if errors == "raise" else _result_or_error)


def check_options(concurrency: int, errors: str) -> None:
    """Raise InvalidParameter unless both are among what `in_order` takes."""
    if concurrency < 1:
        raise InvalidParameter(f"concurrency must be 1 or more, but got {concurrency}")
    if errors not in ("raise", "return"):
        raise InvalidParameter(f'errors must be "raise" or "return", but got {errors!r}')


def _outcomes(
    tasks: Iterable[Callable[[], Result]],
    concurrency: int,
    outcome: Callable[[Future[Result]], Any],
) -> Iterator[Any]:
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="detector")
    tasks, window = iter(tasks), WINDOW * concurrency
    begun: deque[Future[Result]] = deque()  # in order; the first is what comes next
    try:
        while True:
            under_way = [task for task in begun if not task.done()]
            free = min(concurrency - len(under_way), window - len(begun))
            started = [pool.submit(task) for task in islice(tasks, free)]
            begun.extend(started)
            if not begun:
                return
            if not begun[0].done():
                wait(under_way + started, return_when=FIRST_COMPLETED)
            else:
                yield outcome(begun.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(outcome: Future[Result]) -> Result:
    return outcome.result()


def _result_or_error(outcome: Future[Result]) -> Result | DetectorError:
    try:
        return outcome.result()
    except DetectorError as error:
        return error
