"""Tells what hangs from what is merely busy.

An answer that does not come in time says little: a server under load answers late. So from then on
one request waits, for as long as it takes, at each model behind the ensemble that was late. A
model hangs if that request stays without an answer while the model finishes nobody's request, and
its processes meanwhile do nothing at all, or far more than any request costs. A busy model fails
the first: it finishes others' requests. A starved one fails the second.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 60.0  # seconds
LOOKS = 3  # at least: a machine that stood still for a minute is no reason
IDLE = 0.01  # of a core, at most, while waiting for what never comes
COSTLY = 30.0  # seconds of a core that no request takes


@dataclass(frozen=True)
class Sign:
    """What is seen of a model, or of the server, at one moment."""

    answered: bool  # our own request
    finished: int  # requests, anybody's
    cpu: float  # seconds of a core that its processes have used


class Vigil:
    """Watches one model, or the server.

    Args:
        look: what to see now.
        cancel: gives up the request that waits.
    """

    def __init__(self, look: Callable[[], Sign], cancel: Callable[[], object]) -> None:
        self._look = look
        self.end = cancel
        self._begin(look())

    def _begin(self, sign: Sign) -> None:
        self._began, self._looks, self._first = time.monotonic(), 0, sign

    def hangs(self) -> bool:
        """Whether that is certain now."""
        sign = self._look()
        if sign.answered:
            return False
        if sign.finished != self._first.finished:
            self._begin(sign)
            return False
        self._looks += 1
        waited, cpu = time.monotonic() - self._began, sign.cpu - self._first.cpu
        idle = cpu <= IDLE * waited
        return self._looks >= LOOKS and waited >= PATIENCE and (idle or cpu >= COSTLY)
