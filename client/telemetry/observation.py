"""What becomes of an image, as a detector tells it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Self

from client.detection import Result
from client.errors import DetectorError
from client.transports.addresses import Address

Headers = Mapping[str, str]
NO_HEADERS: AbstractContextManager[Headers] = nullcontext(MappingProxyType({}))


class Observation:
    """One image, from its entering to its leaving. This one takes note of nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note_size(self, size: int) -> None:
        """Take note of the encoded image's bytes."""

    def note_result(self, result: Result) -> None:
        """Take note of the answer."""

    def note_retry(self, error: DetectorError) -> None:
        """Take note that another try is to follow a failed one."""

    def observe_try(self, address: Address, model: str) -> AbstractContextManager[Headers]:
        """Return a context for one try; it gives the headers by which a server goes on with it."""
        return NO_HEADERS
