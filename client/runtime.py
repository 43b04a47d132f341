"""Threads or tasks: the few things that differ between a Detector and an AsyncDetector.

What both do is written once, as coroutines. Under `Tasks` they run in an event loop. Under
`Threads` each thing that they await blocks and returns, so that they never wait for a loop:
`finish` runs them to their end as if they were plain functions.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar

from client.errors import InvalidParameter
from client.transports import grpc as grpc_transport
from client.transports.addresses import Address
from client.transports.base import Transport
from client.transports.security import Security

P = ParamSpec("P")
T = TypeVar("T")


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of `Threads` and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    finally:
        coroutine.close()
    raise RuntimeError("a coroutine waited for an event loop, but there is none")


class Lock(Protocol):
    """Held by one thread or task at a time."""

    async def acquire(self, seconds: float) -> bool:
        """Wait so long at most, 0: not at all; return whether it is held now."""

    def release(self) -> None:
        """Let the next one have it."""


class Runtime(Protocol):
    """How a detector waits."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work that reads files or computes."""

    def lock(self) -> Lock:
        """Return a new lock."""

    def connect(
        self, address: Address, security: Security, headers: Mapping[str, str]
    ) -> Transport:
        """Return a transport that sends these headers with each request.

        The connection itself is made by the first one.
        """


class Threads:
    """Each thread waits for its own."""

    async def sleep(self, seconds: float) -> None:
        """Block the thread."""
        time.sleep(seconds)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the work here."""
        return work(*args, **kwargs)

    def lock(self) -> Lock:
        """Return a lock for threads."""
        return ThreadLock()

    def connect(
        self, address: Address, security: Security, headers: Mapping[str, str]
    ) -> Transport:
        """Return a transport for threads."""
        if address.protocol == "HTTP":
            return _http().BlockingHttp(address, security, headers)
        return grpc_transport.BlockingGrpc(address, security, headers)


class Tasks:
    """The event loop runs others meanwhile."""

    async def sleep(self, seconds: float) -> None:
        """Let other tasks run."""
        await asyncio.sleep(seconds)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the work in a thread."""
        return await asyncio.to_thread(work, *args, **kwargs)

    def lock(self) -> Lock:
        """Return a lock for tasks."""
        return TaskLock()

    def connect(
        self, address: Address, security: Security, headers: Mapping[str, str]
    ) -> Transport:
        """Return a transport for tasks."""
        if address.protocol == "HTTP":
            return _http().AsyncHttp(address, security, headers)
        return grpc_transport.AsyncGrpc(address, security, headers)


class ThreadLock:
    """`threading.Lock`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.release = self._lock.release

    async def acquire(self, seconds: float) -> bool:
        """Block so long at most."""
        return self._lock.acquire(timeout=seconds)


class TaskLock:
    """`asyncio.Lock`."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.release = self._lock.release

    async def acquire(self, seconds: float) -> bool:
        """Wait so long at most."""
        if self._lock.locked() and seconds == 0:
            return False
        try:
            async with asyncio.timeout(seconds or None):
                return await self._lock.acquire()
        except TimeoutError:
            return False


def _http() -> Any:
    try:
        from client.transports import http as http_transport
    except ImportError as error:
        raise InvalidParameter(
            f"http:// and https:// need a package more ({error}): pip install 'httpcore2[asyncio]'"
        ) from None
    return http_transport
