"""What detectors for threads and for tasks have in common: all but waiting.

one image -> encoded -> stable model or canary -> a server -> Result
                               ^ on failure, once   ^ again, where that is safe
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from client import canary
from client.detection import Result
from client.errors import (
    DetectorError,
    InvalidParameter,
    Refused,
    ServerError,
    ServerUnavailable,
    explained,
)
from client.images import DEFAULT_LIMIT, LARGEST_LIMIT, Image, encoded, name_of
from client.runtime import Runtime
from client.telemetry.audience import observe_image
from client.telemetry.observation import Observation
from client.tensors import result_of
from client.transports.addresses import parse_addresses
from client.transports.base import Request
from client.transports.deadline import Deadline
from client.transports.retries import Budget, Retries
from client.transports.security import Security
from client.transports.servers import Server, Servers

BACKGROUND = {"priority": "u=7"}  # RFC 9218, 4.1: the least urgent
CanaryKey = str | Callable[[Any], str] | None
logger = logging.getLogger("client.detector")
logger.addHandler(logging.NullHandler())  # silent, unless the program asks for it


@dataclass(frozen=True)
class Call:
    """One image on its way, to whichever model and server."""

    name: str  # of the image, in messages
    data: bytes = field(repr=False)
    parameters: dict[str, float | int]
    deadline: Deadline
    seen: Observation


class BaseDetector:
    """Sends images to Triton servers and returns what they detect in them.

    Opening costs nothing: connections are made by the first request, reused by all that follow, and
    made again within a second or two after a server was away.
    """

    _runtime: ClassVar[Runtime]

    def __init__(
        self,
        url: str | Sequence[str] = "127.0.0.1:8001",
        *,
        model: str = "ensemble",
        timeout: float = 30.0,
        canary_key: str = "",
        security: Security | None = None,
        retries: int = 3,
        bulk: bool = False,
        max_bytes: int = DEFAULT_LIMIT,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: the server's gRPC address as host:port; or a URL, grpc://host:port, grpcs://
                with TLS, http://host:port or https://host:port/path for the HTTP protocol. Several
                servers, separated by commas or as a list, take turns and stand in for one another.
            model: the ensemble's name on the server.
            timeout: seconds that the whole call for one image may take, retries included. When they
                have passed, the request is cancelled.
            canary_key: whom the requests are for, such as a camera's name. If the model has a
                canary, a share of all keys is answered by it, each always on the same side; see
                docs/client.md. Empty: the stable model answers.
            security: certificates and an API key.
            retries: how often a request is tried again at most, while servers are unavailable and
                the timeout allows; 0: never. See client.transports.retries.
            bulk: nobody waits for a single answer. A gateway that has too much to do lets others
                pass, and each image waits for its turn until the timeout.
            max_bytes: of one encoded image; a larger one is not sent.

        Raises:
            InvalidParameter: one of them makes no sense.
        """
        if not (0 < timeout < math.inf):
            raise InvalidParameter(f"timeout must be seconds above 0, but got {timeout}")
        if retries < 0:
            raise InvalidParameter(f"retries must be 0 or more, but got {retries}")
        if not 0 < max_bytes <= LARGEST_LIMIT:
            raise InvalidParameter(f"max_bytes must be 1 to {LARGEST_LIMIT}, but got {max_bytes}")
        self.url = url if isinstance(url, str) else ",".join(url)
        self.model = model
        self.timeout = timeout
        self.canary_key = canary_key
        self.security = security or Security()
        self.bulk = bulk
        self._max_bytes = max_bytes
        self._budget = Budget()
        self._retries = Retries(retries, self._budget, bulk=bulk)
        self._canary_cache = canary.CanaryCache(self._ask_for_canary, self._runtime.lock())
        self._closed = False
        self._servers = Servers(self._connect(url))

    def _connect(self, url: str | Sequence[str]) -> list[Server]:
        addresses = parse_addresses(url)
        if self.security.has_files and not all(address.is_encrypted for address in addresses):
            raise InvalidParameter(
                f"certificates are of use with grpcs:// or https:// only, but got {self.url}"
            )
        headers = self.security.headers() | (BACKGROUND if self.bulk else {})
        return [Server(a, self._runtime.connect(a, self.security, headers)) for a in addresses]

    async def _close(self) -> None:
        self._closed = True
        for server in self._servers.all:
            await server.transport.close()

    async def _detect(
        self, image: Image, parameters: dict[str, float | int], canary_key: str | None
    ) -> Result:
        with observe_image(self.model) as seen:
            deadline = Deadline(self.timeout)
            data = await self._runtime.run(encoded, image, self._max_bytes)
            seen.note_size(len(data))
            call = Call(name_of(image), data, parameters, deadline, seen)
            result = await self._ask(call, canary_key)
            seen.note_result(result)
            return result

    async def _ask(self, call: Call, canary_key: str | None) -> Result:
        model = await self._model_for(canary_key, call.deadline)
        if model != self.model:
            try:
                return await self._send(call, model)
            except (ServerError, ServerUnavailable) as error:
                # The canary's failure or its end. The server has counted it; the user is spared it.
                if self._closed or _asks_to_wait(error):
                    raise
                self._canary_cache.expire()
                logger.warning("%s failed, %s answers instead: %s", model, self.model, error)
        return await self._send(call, self.model)

    async def _send(self, call: Call, model: str) -> Result:
        tried: set[Server] = set()
        tries = 0
        while not self._closed:
            server = self._servers.pick(tried)
            try:
                return await self._try(call, model, server)
            except ServerUnavailable as error:
                if model != self.model and not _asks_to_wait(error):
                    raise
                tried.add(server)
                tries += 1
                pause = self._retries.pause(
                    tries,
                    call.deadline.left(),
                    elsewhere=len(tried) < len(self._servers.all),
                    hint=error.retry_after,
                )
                if pause is None:
                    raise
                call.seen.note_retry(error)
            await self._runtime.sleep(pause)
        raise DetectorError("this detector is closed")

    async def _try(self, call: Call, model: str, server: Server) -> Result:
        try:
            with call.seen.observe_try(server.address, model) as headers:
                request = Request(model, call.data, call.parameters, headers)
                answer = await server.transport.infer(request, call.deadline.left())
                result = result_of(answer.tensors, model=answer.model, server=str(server.address))
        except (Refused, ServerError) as failure:
            error = self._explained(failure, call, server)
            if model == self.model:  # a canary's failure is not the server's
                self._servers.failed(server, error)
            raise error from None
        self._servers.answered(server)
        self._budget.earn()
        return result

    def _explained(
        self, failure: Refused | ServerError, call: Call, server: Server
    ) -> DetectorError:
        if isinstance(failure, ServerError):
            return failure
        return explained(
            Refused("CANCELLED", "") if self._closed else failure,
            address=str(server.address),
            image=call.name,
            timeout=self.timeout,
            protocol=server.address.protocol,
        )

    async def _model_for(self, key: str | None, deadline: Deadline) -> str:
        """Return the ensemble that answers this key; without a key the canary costs nothing."""
        key = self.canary_key if key is None else key
        found = await self._canary_cache.get(deadline.left()) if key else None
        return found.name if found and found.takes(key) else self.model

    async def _ask_for_canary(self, seconds: float) -> canary.Canary | None:
        """Ask one server; where it is away, the next."""
        deadline = Deadline(seconds)
        tried: set[Server] = set()
        while len(tried) < len(self._servers.all):
            server = self._servers.pick(tried)
            tried.add(server)
            try:
                name = canary.name_of(self.model)
                parameters = await server.transport.parameters(name, deadline.left())
            except Refused as refused:
                if refused.status == "UNAVAILABLE":
                    continue
                return None  # there is none, most likely
            self._servers.answered(server)
            return canary.read_canary(self.model, parameters)
        return None


def _asks_to_wait(error: DetectorError) -> bool:
    """Whether what is full stands before all models, such as a gateway: not a canary's failure."""
    return isinstance(error, ServerUnavailable) and error.retry_after is not None
