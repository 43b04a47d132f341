"""What carries requests to one server, whatever the protocol, for threads or for tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Request:
    """One image for one model."""

    model: str
    image: bytes = field(repr=False)
    parameters: dict[str, float | int]
    headers: Mapping[str, str] = field(default_factory=dict)  # beside those of the connection


@dataclass(frozen=True, slots=True)
class Answer:
    """The model that answered, and its tensors by name."""

    model: str
    tensors: dict[str, np.ndarray]


class Transport(Protocol):
    """A connection to one server, made by the first request and made again when it broke.

    The methods are coroutines in both flavours. Those for threads block instead of waiting, so
    that `client.runtime.finish` runs them without an event loop.
    """

    async def infer(self, request: Request, seconds: float) -> Answer:
        """Send a request.

        Raises:
            Refused: it failed, or took longer than `seconds`; the server is told to drop it.
        """

    async def parameters(self, model: str, seconds: float) -> dict[str, str]:
        """Return the parameters in a model's configuration.

        Raises:
            Refused: as for `infer`.
        """

    async def headers(self, seconds: float) -> dict[str, str]:
        """Return the headers of what answers there, names in lower case; `server` is its name.

        Raises:
            Refused: as for `infer`.
        """

    async def close(self) -> None:
        """Close the connection; requests under way fail as cancelled."""
