"""What `detect --inbox` keeps: the photos of a run that the model is least sure of."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from client.detect.settings import Detect
from client.detection import Result
from client.errors import InvalidImage, InvalidParameter
from client.inbox.inbox import Inbox, InboxError
from client.inbox.samples import Samples
from client.server_api import connect
from client.service import describe


class Sampler:
    """Offers photos to an inbox until one cannot be kept: the run goes on without it then.

    Attributes:
        failures: 1 where that happened.
    """

    def __init__(self, samples: Samples, settings: Detect, complain: Callable[[str], None]) -> None:
        self._samples = samples
        self._settings = settings
        self._complain = complain
        self.failures = 0

    def offer(self, photo: Path, result: Result) -> None:
        """Keep a photo, if it is one of the least sure."""
        if self.failures:
            return
        try:
            self._samples.offer(photo, result, partial(_tell_version, self._settings, result))
        except InboxError as error:
            self._complain(f"{error}; no more photos are kept, the results are not affected")
            self.failures = 1
        except InvalidImage as error:  # the server has read it all the same
            self._complain(str(error))


def open_sampler(address: str, settings: Detect, complain: Callable[[str], None]) -> Sampler:
    """What keeps photos in an inbox.

    Args:
        address: of the inbox: a folder, or a bucket or a part of it.
        settings: of the run.
        complain: is told why nothing can be kept any more.

    Raises:
        InvalidParameter: it cannot be written.
    """
    try:
        inbox = Inbox(address, settings.inbox_limit)
    except InboxError as error:
        raise InvalidParameter(f"--inbox {error}") from None
    return Sampler(Samples(inbox, settings.unsure), settings, complain)


def _tell_version(settings: Detect, result: Result) -> str:
    """What answered, as far as it says so."""
    if settings.local:
        return f"{result.model} in {settings.local}"
    with connect(result.server, settings.security.read()) as server:
        return describe(server, settings.model).versions(result.model)
