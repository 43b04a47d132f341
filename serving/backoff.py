"""Pauses between attempts: none before the first, then longer and longer ones."""

import random

FIRST = 1.0  # seconds


class Backoff:
    """One row of attempts.

    Args:
        longest: seconds that no pause exceeds.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._next = 0.0

    def pause(self) -> float:
        """Seconds to wait before the next attempt: doubled each time, shortened by up to half.

        By chance, so that many servers do not ask a store that came back all at the same moment.
        """
        now, self._next = self._next, min(self._longest, max(FIRST, 2 * self._next))
        return now * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._next = 0.0
