"""When a request that a server did not take is tried again.

Only `ServerUnavailable` is ever tried again: the server was not reached, is full, or stops. A
detection changes nothing on the server, so it does no harm if one that broke off is done twice.

- On a server not yet tried for this request: at once. Else after a pause drawn from 0 up to a bound
  that doubles with each try ("full jitter": AWS Architecture Blog, Exponential Backoff And Jitter),
  so that the clients of a server that comes back do not come all at once.
- Never beyond the call's deadline.
- Within a budget, so that an outage is not made worse by the retries of all its clients (Google SRE
  book, Handling Overload; gRPC's retry throttling, gRFC A6).

Our own, because a further try may go to another server, by either protocol: gRPC's retries stay on
one channel, and httpcore2's are for connections that could not be made.
"""

import random
import threading
import time
from collections.abc import Callable

FIRST_PAUSE = 0.1  # seconds, the bound of the first pause
LONGEST_PAUSE = 2.0
RESERVE = 50.0  # retries that may come at once: what is under way when a server dies
PER_SUCCESS = 0.1  # retries that each answered request adds
PER_SECOND = 1.0  # and each second: probes of a dead server by a client that asks seldom

Clock = Callable[[], float]


class Budget:
    """The retries that a detector may still make. Threads share it."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._left = RESERVE
        self._seen = clock()
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Count an answered request."""
        with self._lock:
            self._left = min(RESERVE, self._left + PER_SUCCESS)

    def spend(self) -> bool:
        """Take one retry; False: there is none."""
        with self._lock:
            now = self._clock()
            self._left = min(RESERVE, self._left + PER_SECOND * (now - self._seen))
            self._seen = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class Retries:
    """Decides about each further try.

    Args:
        limit: of one request, after its first try.
        budget: of all requests.
        draw: returns a number from 0 to 1.
    """

    def __init__(
        self, limit: int, budget: Budget, draw: Callable[[], float] = random.random
    ) -> None:
        self._limit = limit
        self._budget = budget
        self._draw = draw

    def pause(self, tries: int, left: float, *, elsewhere: bool) -> float | None:
        """Return the seconds to wait before the next try, None if there shall be none.

        Args:
            tries: how many have failed, 1 or more.
            left: seconds until the deadline.
            elsewhere: there is a server that this request has not tried.
        """
        if tries > self._limit:
            return None
        doubled = FIRST_PAUSE * 2 ** min(tries - 1, 10)  # no float holds 2**1024
        bound = 0.0 if elsewhere else min(LONGEST_PAUSE, doubled)
        pause = self._draw() * bound
        return pause if pause < left and self._budget.spend() else None
