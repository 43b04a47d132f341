"""What carries requests to a server: one interface for HTTP/1.1 and gRPC."""

import time
from typing import NamedTuple, Protocol

clock = time.perf_counter


class Answer(NamedTuple):
    """What came back for one request."""

    number: int  # which photo
    began: float  # clock, when it was sent, or meant to be
    ended: float
    status: str  # OK, or what went wrong
    body: bytes


class Transport(Protocol):
    """Carries requests to one server. One thread uses it."""

    def send(self, number: int, began: float) -> None:
        """Send the request of photo `number`, without waiting."""

    def wait(self, seconds: float) -> list[Answer]:
        """The answers that came since the last call; waits so long for the first of them."""

    def close(self) -> None:
        """End all connections."""
