"""When a request that a server did not take is tried again.

Only `ServerUnavailable` is ever tried again: the server was not reached, is full, or stops. A
detection changes nothing on the server, so it does no harm if one that broke off is done twice.

- On a server not yet tried for this request: at once. Else after a pause drawn from 0 up to a bound
  that doubles with each try ("full jitter": AWS Architecture Blog, Exponential Backoff And Jitter),
  so that the clients of a server that comes back do not come all at once.
- Where a server said when to come again: not earlier, and at a moment drawn from then on, up to
  that time once more. Another one that this request has not tried is still asked at once.
- Never beyond the call's deadline.
- Within a budget, so that an outage is not made worse by the retries of all its clients (Google SRE
  book, Handling Overload; gRPC's retry throttling, gRFC A6). Bulk work comes as often as it is told
  to: it has so many requests under way and no more, so that waiting slows it down.

Our own, because a further try may go to another server, by either protocol: gRPC's retries stay on
one channel, and httpcore2's are for connections that could not be made.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import mktime_tz, parsedate_tz

FIRST_PAUSE = 0.1  # seconds, the bound of the first pause
LONGEST_PAUSE = 2.0
RESERVE = 50.0  # retries that may come at once: what is under way when a server dies
PER_SUCCESS = 0.1  # retries that each answered request adds
PER_SECOND = 1.0  # and each second: probes of a dead server by a client that asks seldom
LONGEST_HINT = 3600.0  # seconds; who names a longer wait does not know what it says

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


def read_hint(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which a server asks to be tried again; None: it says nothing of it.

    Args:
        headers: of a response, names in lower case: gRPC's `grpc-retry-pushback-ms` (gRFC A6), or
            HTTP's `retry-after`, which is in seconds or a date (RFC 9110, 10.2.3).
    """
    pushback = headers.get("grpc-retry-pushback-ms", "")
    after = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]+", pushback):
        seconds = float(pushback) / 1000
    elif re.fullmatch(r"[0-9]+", after):
        seconds = float(after)
    else:
        seconds = _seconds_until(after)
    return seconds if 0 <= seconds <= LONGEST_HINT else None


def _seconds_until(date: str) -> float:
    """Return how long it is until then; less than 0 where the text is no date."""
    try:
        parsed = parsedate_tz(date)
        return mktime_tz(parsed) - time.time() if parsed else -1.0
    except (ValueError, OverflowError):
        return -1.0


class Retries:
    """Decides about each further try.

    Args:
        limit: of one request, after its first try.
        budget: of all requests.
        bulk: neither limit nor budget holds where a server said when to come again.
        draw: returns a number from 0 to 1.
    """

    def __init__(
        self,
        limit: int,
        budget: Budget,
        draw: Callable[[], float] = random.random,
        *,
        bulk: bool = False,
    ) -> None:
        self._limit = limit
        self._budget = budget
        self._draw = draw
        self._bulk = bulk

    def pause(
        self, tries: int, left: float, *, elsewhere: bool, hint: float | None = None
    ) -> float | None:
        """Return the seconds to wait before the next try, None if there shall be none.

        Args:
            tries: how many have failed, 1 or more.
            left: seconds until the deadline.
            elsewhere: there is a server that this request has not tried.
            hint: of `read_hint`.
        """
        is_told = self._bulk and hint is not None
        if tries > self._limit and not is_told:
            return None
        doubled = FIRST_PAUSE * 2 ** min(tries - 1, 10)  # no float holds 2**1024
        least = hint or 0.0
        bound = max(least, min(LONGEST_PAUSE, doubled))
        pause = 0.0 if elsewhere else least + self._draw() * bound
        return pause if pause < left and (is_told or self._budget.spend()) else None
