"""The servers over one repository: what a release does, it does on all of them at once."""

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tritonclient.utils import InferenceServerException

from client.errors import InvalidParameter
from client.transports.addresses import parse_addresses
from serving.control import Control
from serving.errors import PublishError, first_line
from serving.repository import State, Task
from serving.served import read_served

T = TypeVar("T")
LIST = "@"  # before the name of a file of addresses
DNS = "dns:"  # before a name that stands for several


class Servers:
    """Connections to servers that serve the same repository; to none where none is named.

    Args:
        controls: by address.
    """

    def __init__(self, controls: Mapping[str, Control]) -> None:
        self.controls = dict(controls)
        self._lost: dict[str, Exception] | None = None  # where one that fails is left out

    def __len__(self) -> int:
        return len(self.controls)

    def each(self, call: Callable[[Control], T]) -> dict[str, T]:
        """Do the same on all servers at once. Returns the answers by address.

        It waits for all, so that nothing is under way any more when one has failed.

        Raises:
            InferenceServerException: a server failed; which one, where there are several.
            PublishError: likewise.
        """
        with ThreadPoolExecutor(max(1, len(self))) as pool:
            futures = {url: pool.submit(call, control) for url, control in self.controls.items()}
        answers: dict[str, T] = {}
        for url, future in futures.items():
            try:
                answers[url] = future.result()
            except (InferenceServerException, PublishError) as error:
                if self._lost is None:
                    raise self._name(url, error) from None
                self._lost[url] = error
                del self.controls[url]
        return answers

    @contextmanager
    def going_on(self) -> Iterator[dict[str, Exception]]:
        """Inside, one that fails is left out from then on. Gives those, by address."""
        everybody, lost = dict(self.controls), dict[str, Exception]()
        self._lost = lost
        try:
            yield lost
        finally:
            self.controls, self._lost = everybody, None

    def leave_out_silent(self) -> list[str]:
        """Go on without those that do not answer, as long as one does. Returns their addresses."""
        answers = self.each(lambda control: control.is_live())
        silent = [url for url, lives in answers.items() if not lives]
        if len(silent) == len(self):
            return []
        for url in silent:
            del self.controls[url]
        return silent

    def _name(self, url: str, error: Exception) -> Exception:
        """The same failure, with the address of the server if there are others."""
        if len(self) < 2:
            return error
        said = f"{url}: {first_line(error)}"
        if isinstance(error, InferenceServerException):
            return InferenceServerException(said, error.status())
        return PublishError(said)


def describe_failures(lost: Mapping[str, Exception]) -> str:
    """What each server failed with."""
    return ", ".join(f"{url}: {first_line(error)}" for url, error in lost.items())


def read_addresses(text: str) -> list[str]:
    """The gRPC addresses in the option --url: a,b,c, @FILE for those in a file, or dns:HOST:PORT.

    In the file each line begins with one, as in the list that a fleet writes; what stands behind a
    # is left out. A name is looked up once, and stands for all addresses that it has.

    Raises:
        PublishError: there are none, one is malformed or there twice, or the file cannot be read.
    """
    if text.startswith(DNS):
        return _look_up(text.removeprefix(DNS))
    listed = text.split(",")
    if text.startswith(LIST):
        try:
            lines = Path(text.removeprefix(LIST)).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PublishError(f"--url {text}: the file cannot be read: {error}") from None
        listed = [words[0] for line in lines if (words := line.partition("#")[0].split())]
        if not listed:
            raise PublishError(f"--url {text}: the file is empty, expected an address on each line")
    try:
        found = parse_addresses(listed)
    except InvalidParameter as error:
        raise PublishError(f"--url {text}: {error}") from None
    if others := [address.text for address in found if address.scheme != "grpc"]:
        raise PublishError(f"--url {text}: must be host:port of gRPC, found {others[0]}")
    counts = Counter(address.authority for address in found)
    if twice := [authority for authority, count in counts.items() if count > 1]:
        raise PublishError(f"--url {text}: {twice[0]} is there {counts[twice[0]]} times")
    return list(counts)


def _look_up(place: str) -> list[str]:
    """All addresses of a name, with its port, in their order."""
    host, _, port = place.rpartition(":")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise PublishError(
            f"--url {DNS}{place}: no address is known of it ({error}): expected HOST:PORT, a name "
            "of servers that are ready"
        ) from None
    hosts = sorted({str(address[0]) for *_, address in found})
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]


def read_state(control: Control, task: Task) -> State | None:
    """What a server serves of a task; None where it lacks one of the task's models.

    Raises:
        InferenceServerException: it does not say.
    """
    loaded = {int(version) for version in control.versions(task.network, "READY")}
    models = control.loaded()  # also those whose files are gone
    if not loaded or task.ensemble not in models:
        return None
    canary = control.config(task.canary) if task.canary in models else None
    return read_served(control.config(task.ensemble), task.network, loaded, canary)
