"""Which requests a canary answers, and what a client knows of it.

A canary is a new version on trial: the ensemble `<model>_canary` beside the stable ensemble
`<model>`, with the same inputs and outputs. It gets a share of the requests that bring a key. Which
of the keys is a matter of arithmetic alone, so that clients in any language agree without talking:

    u = first 8 bytes, big endian, of sha256("<model>:<version>:<key>" in UTF-8) / 2**64
    canary if u < share, else stable

A key therefore keeps its side while version and share stay, a larger share only adds keys, and
another version draws anew. Version and share are parameters of the canary's configuration:

    parameters { key: "canary_version" value { string_value: "7" } }
    parameters { key: "canary_share"   value { string_value: "0.1" } }
"""

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from client.runtime import Lock

SUFFIX = "_canary"
SHARE, VERSION = "canary_share", "canary_version"  # parameters of its configuration
CANARY_SECONDS = 30.0  # how old knowledge may get
ASK_SECONDS = 1.0  # how long asking may take; without a server's load it is less than 1 ms


@dataclass(frozen=True, slots=True)
class Canary:
    """A version on trial: the stable ensemble's name, the version's number, a share of 0..1."""

    model: str
    version: str
    share: float

    @property
    def name(self) -> str:
        """The canary's own ensemble."""
        return name_of(self.model)

    def takes(self, key: str) -> bool:
        """Whether this key's requests go to the canary."""
        # An int against a float is compared exactly, so a share of 1 takes all.
        return position(self.model, self.version, key) < self.share * 2**64


def name_of(model: str) -> str:
    """Return the name that a stable ensemble's canary has."""
    return model + SUFFIX


def position(model: str, version: str, key: str) -> int:
    """Return where a key stands, 0 to 2**64 - 1: u of the formula times 2**64."""
    text = f"{model}:{version}:{key}"
    # backslashreplace: file names may hold what has no UTF-8.
    return int.from_bytes(hashlib.sha256(text.encode(errors="backslashreplace")).digest()[:8])


def read_canary(model: str, parameters: Mapping[str, str]) -> Canary | None:
    """Return what the canary's configuration says of it, None where that makes no sense.

    Args:
        model: the stable ensemble.
        parameters: in the configuration of the ensemble `name_of(model)`.
    """
    version = parameters.get(VERSION, "")
    try:
        share = float(parameters.get(SHARE, ""))
    except ValueError:
        return None
    if not 0 <= share <= 1 or not re.fullmatch(r"[1-9][0-9]*", version):
        return None
    return Canary(model, version, share)


class CanaryCache:
    """The canary as the server last told it, asked for every `CANARY_SECONDS` at most.

    Threads or tasks share it.

    Args:
        ask: takes the seconds it may last; returns the canary, None where there is none.
        lock: held while asking.
    """

    def __init__(self, ask: Callable[[float], Awaitable[Canary | None]], lock: Lock) -> None:
        self._ask = ask
        self._asking = lock
        self._canary: Canary | None = None
        self._due: float | None = None  # None: never asked yet

    async def get(self, seconds: float) -> Canary | None:
        """Return the canary; None where there is none, or none is known of.

        Where the knowledge is too old one asks, and the others go on with the old one. Only the
        very first time they wait for it: a key's first requests belong on one side too.

        Args:
            seconds: how long this may take at most.
        """
        wait = seconds if self._due is None else 0
        if self._is_old() and await self._asking.acquire(wait):
            try:
                if self._is_old():  # else another one has just asked
                    self._canary = await self._ask(min(seconds, ASK_SECONDS))
                    self._due = time.monotonic() + CANARY_SECONDS
            finally:
                self._asking.release()
        return self._canary

    def expire(self) -> None:
        """Let the next `get` ask: the canary has failed and may be gone."""
        self._due = 0.0

    def _is_old(self) -> bool:
        return self._due is None or time.monotonic() >= self._due
