"""Many tasks of an event loop at once, their outcomes in order, in bounded memory."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
)
from typing import Any, TypeVar

from client.detection import Result
from client.errors import DetectorError
from client.ordered import WINDOW

T = TypeVar("T")
Work = Callable[[T], Coroutine[Any, Any, Result]]
END: Any = object()  # of the items


async def in_order(
    items: Iterable[T] | AsyncIterable[T], work: Work[T], concurrency: int, *, raising: bool
) -> AsyncGenerator[Any, None]:
    """Do the work for each item and yield what becomes of it, in the order of the items.

    An item is taken when a task is free for it, so they may be endless, and an outcome is yielded
    as soon as it is there, so they may come slowly. While one task is slow the others go on, until
    `WINDOW * concurrency` outcomes wait for it. When the iteration ends early, what is under way is
    cancelled.

    Args:
        items: taken by `for` or `async for`.
        work: a coroutine function.
        concurrency: tasks under way at once, 1 or more.
        raising: whether a DetectorError ends the iteration, or is yielded in its place.
    """
    source = _each(items)
    begun: deque[asyncio.Task[Result]] = deque()  # in order; the first is what comes next
    coming: asyncio.Task[T] | None = None  # the next item
    ended = False  # whether there are more items
    try:
        while begun or not ended:
            if coming and coming.done():
                item, coming = coming.result(), None
                ended = item is END
                if not ended:
                    begun.append(asyncio.create_task(work(item)))
            busy: list[asyncio.Task[Any]] = [task for task in begun if not task.done()]
            is_free = len(busy) < concurrency and len(begun) < WINDOW * concurrency
            if is_free and not coming and not ended:
                coming = asyncio.create_task(_next(source))
            if begun and begun[0].done():
                yield _outcome(begun.popleft(), raising)
            elif waiting := [*busy, coming] if coming else busy:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel([*begun, coming] if coming else begun)


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source, END)


def _outcome(task: asyncio.Task[Result], raising: bool) -> Result | DetectorError:
    try:
        return task.result()
    except DetectorError as error:
        if raising:
            raise
        return error


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
