import asyncio
import sys
import threading
import time

import pytest

from client import Detector, InvalidParameter
from client.runtime import Tasks, Threads, finish


async def three() -> int:
    return 3


async def broken() -> int:
    raise ValueError("no")


def test_a_coroutine_that_waits_for_no_loop_is_a_function() -> None:
    assert finish(three()) == 3
    with pytest.raises(ValueError, match="no"):
        finish(broken())


def test_one_that_waits_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="waited for an event loop"):
        finish(asyncio.sleep(0))


def test_threads_wait_by_blocking() -> None:
    begin = time.monotonic()
    finish(Threads().sleep(0.05))
    assert time.monotonic() - begin >= 0.05
    assert finish(Threads().run(threading.current_thread)) is threading.current_thread()


@pytest.mark.anyio
async def test_tasks_leave_work_to_another_thread() -> None:
    assert await Tasks().run(threading.current_thread) is not threading.current_thread()


def test_a_threads_lock_is_waited_for_no_longer_than_asked() -> None:
    lock = Threads().lock()
    assert finish(lock.acquire(0))
    assert not finish(lock.acquire(0))
    assert not finish(lock.acquire(0.01))
    lock.release()
    assert finish(lock.acquire(0))


@pytest.mark.anyio
async def test_a_tasks_lock_is_waited_for_no_longer_than_asked() -> None:
    lock = Tasks().lock()
    assert await lock.acquire(0)
    assert not await lock.acquire(0)
    assert not await lock.acquire(0.01)
    waiting = asyncio.create_task(lock.acquire(10))
    await asyncio.sleep(0)
    lock.release()
    assert await waiting


def test_without_the_package_http_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "client.transports.http", raising=False)
    monkeypatch.delattr("client.transports.http", raising=False)
    monkeypatch.setitem(sys.modules, "httpcore2", None)
    with pytest.raises(InvalidParameter, match=r"pip install 'httpcore2\[asyncio\]'"):
        Detector("http://127.0.0.1:8000")
