"""Requests by HTTP: the KServe protocol, tensors in its binary extension.

https://github.com/kserve/open-inference-protocol and Triton's
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

A request that is given up has its connection closed.

Our own, because tritonclient's HTTP client has neither a deadline for a whole request nor one code
for threads and tasks, and copies each image: here httpcore2 keeps the connections, and this file
adds the messages of the protocol and the deadline.
"""

import asyncio
import contextlib
import json
import os
import socket
import ssl
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpcore2

from client.errors import NotTriton, Refused
from client.tensors import Output, arrays_of, packed, timeout
from client.transports.addresses import Address, model_path
from client.transports.base import Answer, Request, Transport
from client.transports.deadline import Deadline
from client.transports.retries import read_hint
from client.transports.security import Security

HEADER_LENGTH = "Inference-Header-Content-Length"  # of the JSON before the tensors, bytes
CONNECT_SECONDS = 3.0
IDLE_SECONDS = 60.0  # that a connection is kept without a request
CHUNK = 2**18  # bytes, after which a slow upload looks at the clock
Headers = dict[bytes | str, bytes | str]
# As Triton maps them, and gRPC those of proxies (grpc/doc/http-grpc-status-mapping.md).
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "UNAVAILABLE",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}


class Http(Transport):
    """What both flavours share: the messages."""

    def __init__(self, address: Address, security: Security, headers: Mapping[str, str]) -> None:
        self._address = address
        self._settings: dict[str, Any] = {
            "ssl_context": security.context() if address.is_encrypted else None,
            "max_connections": None,
            "keepalive_expiry": IDLE_SECONDS,
        }
        self._headers: Headers = {"Host": address.authority}
        self._headers.update(headers.items())

    async def infer(self, request: Request, seconds: float) -> Answer:
        """See Transport."""
        headers, body = _message(request, seconds)
        headers.update(request.headers.items())
        response = await self._exchange(
            "POST", f"{model_path(request.model)}/infer", headers, body, seconds
        )
        with _malformed_is_refused():
            head, tensors = _split(response)
            return Answer(head["model_name"], arrays_of(_outputs(head["outputs"], tensors)))

    async def parameters(self, model: str, seconds: float) -> dict[str, str]:
        """See Transport."""
        content = await self.get(f"{model_path(model)}/config", seconds)
        with _malformed_is_refused():
            parameters = json.loads(content).get("parameters", {})
            return {name: value["string_value"] for name, value in parameters.items()}

    async def get(self, path: str, seconds: float) -> bytes:
        """Return what the server answers to a GET of a path below its address.

        Raises:
            NotTriton: an error came from something else that speaks HTTP.
            Refused: as for `infer`.
        """
        return (await self._exchange("GET", path, {}, b"", seconds)).content

    async def headers(self, seconds: float) -> dict[str, str]:
        """See Transport."""
        return _headers(await self._exchange("GET", "/v2/health/live", {}, b"", seconds))

    async def _exchange(
        self, method: str, path: str, headers: Headers, body: bytes, seconds: float
    ) -> httpcore2.Response:
        """Return a successful response."""
        if seconds <= 0:  # sockets take it for: do not wait
            raise Refused("DEADLINE_EXCEEDED", "no answer in time")
        target = self._address.path + path
        url = httpcore2.URL(
            scheme=self._address.scheme,
            host=self._address.host.strip("[]"),
            port=self._address.port,
            target=target,
        )
        try:
            response = await self._send(method, url, {**self._headers, **headers}, body, seconds)
        except httpcore2.ConnectTimeout:
            raise Refused("UNAVAILABLE", "failed to connect in time") from None
        except (TimeoutError, httpcore2.TimeoutException):
            raise Refused("DEADLINE_EXCEEDED", "no answer in time") from None
        except (httpcore2.NetworkError, httpcore2.RemoteProtocolError, OSError) as error:
            raise Refused("UNAVAILABLE", _connection(error)) from None
        if response.status != 200:
            refused = _refused(response)
            refused.http_status = response.status
            raise refused
        return response

    @abstractmethod
    async def _send(
        self, method: str, url: httpcore2.URL, headers: Headers, body: bytes, seconds: float
    ) -> httpcore2.Response:
        """Return the response, whole."""


class BlockingHttp(Http):
    """For threads."""

    def __init__(self, address: Address, security: Security, headers: Mapping[str, str]) -> None:
        super().__init__(address, security, headers)
        self._pool = httpcore2.ConnectionPool(**self._settings, network_backend=_Network())

    async def close(self) -> None:
        """See Transport."""
        self._pool.close()

    async def _send(
        self, method: str, url: httpcore2.URL, headers: Headers, body: bytes, seconds: float
    ) -> httpcore2.Response:
        connect = min(seconds, CONNECT_SECONDS)
        deadline = Deadline(seconds)  # reaches _Stream, which wants no number of seconds
        timeouts = {"connect": connect, "read": deadline, "write": deadline, "pool": seconds}
        extensions = {"timeout": timeouts}
        return self._pool.request(method, url, headers=headers, content=body, extensions=extensions)


class AsyncHttp(Http):
    """For tasks. The connections belong to the event loop of the first request."""

    def __init__(self, address: Address, security: Security, headers: Mapping[str, str]) -> None:
        super().__init__(address, security, headers)
        self._pool = httpcore2.AsyncConnectionPool(**self._settings)

    async def close(self) -> None:
        """See Transport."""
        await self._pool.aclose()

    async def _send(
        self, method: str, url: httpcore2.URL, headers: Headers, body: bytes, seconds: float
    ) -> httpcore2.Response:
        extensions = {"timeout": {"connect": min(seconds, CONNECT_SECONDS)}}
        async with asyncio.timeout(seconds):
            return await self._pool.request(
                method, url, headers=headers, content=body, extensions=extensions
            )


class _Network(httpcore2.SyncBackend):
    """Connections that keep to a deadline, however little arrives at a time."""

    def connect_tcp(self, *args: Any, **kwargs: Any) -> "_Stream":
        return _Stream(super().connect_tcp(*args, **kwargs))


class _Stream(httpcore2.NetworkStream):
    """A connection whose timeouts are deadlines."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        view = memoryview(buffer)
        for start in range(0, len(view), CHUNK):
            left = _left(timeout, httpcore2.WriteTimeout)
            self._stream.write(view[start : start + CHUNK], timeout=left)  # type: ignore[arg-type]

    def close(self) -> None:
        # Closing alone would not wake a thread that reads.
        with contextlib.suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> "_Stream":
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: Deadline, timeout: type[Exception]) -> float:
    left = deadline.left()
    if left == 0:
        raise timeout("the deadline has passed")
    return left


def _message(request: Request, seconds: float) -> tuple[Headers, bytes]:
    data = packed(request.image)
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1, 1],
        "parameters": {"binary_data_size": len(data)},
    }
    parameters = {**request.parameters, **timeout(seconds), "binary_data_output": True}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    headers: Headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return headers, head + data


def _headers(response: httpcore2.Response) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}


def _split(response: httpcore2.Response) -> tuple[Any, memoryview]:
    """Return a response's JSON and its tensors."""
    length = int(_headers(response).get(HEADER_LENGTH.lower(), len(response.content)))
    return json.loads(response.content[:length]), memoryview(response.content)[length:]


def _outputs(heads: Iterable[Any], tensors: memoryview) -> Iterator[Output]:
    for head in heads:
        size = head["parameters"]["binary_data_size"]
        yield Output(head["name"], head["datatype"], head["shape"], bytes(tensors[:size]))
        tensors = tensors[size:]


@contextlib.contextmanager
def _malformed_is_refused() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("INTERNAL", "its answer is not one of the KServe protocol") from None


def _refused(response: httpcore2.Response) -> Refused:
    status, plain = STATUSES.get(response.status, "INTERNAL"), f"HTTP status {response.status}"
    hint = read_hint(_headers(response))
    if not response.content:  # how Triton says that something is not ready
        return Refused(status, plain, hint)
    try:
        return Refused(status, str(json.loads(response.content)["error"]), hint)
    except (ValueError, KeyError, TypeError):
        return NotTriton(status, plain, hint)


def _connection(error: Exception) -> str:
    """Return what is said of a connection, in words that client.errors looks for."""
    root = _root(error)
    # asyncio's own words do not tell a refused connection.
    known = isinstance(root, ConnectionError) and root.errno
    said = os.strerror(known) if known else str(root) or "Socket closed"
    return f"failed to connect: {said}" if isinstance(error, httpcore2.ConnectError) else said


def _root(error: BaseException) -> BaseException:
    """Return what it began with: a library's own words hide the system's."""
    if isinstance(error, BaseExceptionGroup):  # a host's several addresses, each tried in vain
        return _root(error.exceptions[0])
    causes = [error.__cause__, *error.args]  # httpcore2 drops the cause and keeps the argument
    cause = next((each for each in causes if isinstance(each, BaseException)), None)
    return _root(cause) if cause else error
