"""Which of several servers gets the next request.

Each in turn. A server that cannot be reached, is full or stops is left out for a second, and for
twice as long each further time; so is one that fails or is late several times in a row. Then one
request finds out whether it is well again, and the others go on without it. One that says when to
come again is left out until then. When all are left out, all are tried.
"""

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from client.errors import DetectorError, InvalidImage, InvalidParameter, ServerUnavailable
from client.transports.addresses import Address
from client.transports.base import Transport
from client.transports.retries import Clock

FIRST_OUT = 1.0  # seconds that a server is left out at first
LONGEST_OUT = 30.0
STRIKES = 3  # failures in a row, of a server that answers or is late


@dataclass(eq=False)  # a server is itself, and may be in a set
class Server:
    """One server and what is known of it."""

    address: Address
    transport: Transport
    strikes: int = 0
    times_out: int = 0  # in a row
    out_until: float = 0.0

    def leave_out(self, now: float) -> None:
        """Send it nothing for a while."""
        doubled = FIRST_OUT * 2 ** min(self.times_out, 10)  # no float holds 2**1024
        self.out_until = now + min(LONGEST_OUT, doubled)
        self.times_out += 1


class Servers:
    """Takes turns among servers. Threads share it."""

    def __init__(self, servers: Sequence[Server], clock: Clock = time.monotonic) -> None:
        self.all = servers
        self._clock = clock
        self._turn = 0
        self._lock = threading.Lock()

    def pick(self, tried: Collection[Server] = ()) -> Server:
        """Return the next one, if possible one that has not been tried for this request."""
        with self._lock:
            now = self._clock()
            ranks = {server: (server in tried, server.out_until > now) for server in self.all}
            best = [server for server in self.all if ranks[server] == min(ranks.values())]
            server = best[self._turn % len(best)]
            self._turn += 1
            if server.times_out and server.out_until <= now:
                server.leave_out(now)  # this request finds out, the others need not wait for it
            return server

    def answered(self, server: Server) -> None:
        """Take note that a server is well."""
        server.strikes = server.times_out = 0
        server.out_until = 0.0

    def failed(self, server: Server, error: DetectorError) -> None:
        """Take note of a request without a result."""
        if isinstance(error, (InvalidImage, InvalidParameter)):  # the server did what it should
            self.answered(server)
            return
        with self._lock:
            now = self._clock()
            if isinstance(error, ServerUnavailable) and error.retry_after is not None:
                server.out_until = now + error.retry_after  # it is well, and full
                return
            server.strikes += 1
            gone = isinstance(error, ServerUnavailable) or server.strikes >= STRIKES
            if gone and server.out_until <= now:
                server.leave_out(now)
