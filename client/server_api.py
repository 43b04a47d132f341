"""The questions of `client.service` to one server, by gRPC or HTTP, with TLS and keys.

By gRPC it is tritonclient that asks; what it does not tell, the headers of answers, a detector's
transport does. Its HTTP client answers in other types and knows no timeout of one request, so
`RestServer` asks by the HTTP transport alone, under tritonclient's names and with its answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import InferenceServerClient, InferenceServerClientPlugin, service_pb2
from tritonclient.utils import InferenceServerException

from client.errors import NotTriton, Refused
from client.runtime import Threads, finish
from client.transports.addresses import model_path, parse_addresses
from client.transports.base import Transport
from client.transports.security import Security

Answer = TypeVar("Answer", bound=Message)


def connect(url: str, security: Security | None = None) -> Any:
    """Return what `client.service` takes for a client; close it after use, or use it in a `with`.

    Args:
        url: of one server, as for a Detector.
        security: certificates and an API key.

    Raises:
        InvalidParameter: the address makes no sense, or a file of `security` cannot be read.
    """
    security = security or Security()
    (address,) = parse_addresses([url])
    transport = Threads().connect(address, security, security.headers())
    if address.protocol == "HTTP":
        return RestServer(transport)
    server = GrpcServer(
        transport,
        address.authority,
        creds=security.credentials() if address.is_encrypted else None,
        # gRPC sends even loopback connections through $http_proxy.
        channel_args=[("grpc.enable_http_proxy", int(not address.is_loopback))],
    )
    server.register_plugin(_Headers(security.headers()))
    return server


class GrpcServer(InferenceServerClient):
    """One server. Threads may share it."""

    def __init__(self, transport: Transport, *args: Any, **kwargs: Any) -> None:
        self._transport = transport
        super().__init__(*args, **kwargs)

    def close(self) -> None:
        """Close the connections."""
        finish(self._transport.close())
        super().close()

    def get_headers(self, client_timeout: float) -> dict[str, str]:
        """What answers calls itself `server` there, and more; names in lower case."""
        with _raised_as_tritonclient():
            return finish(self._transport.headers(client_timeout))


class _Headers(InferenceServerClientPlugin):
    """Adds headers to each request."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: Any) -> None:
        request.headers = {**(request.headers or {}), **self._headers}


class RestServer:
    """One server. Threads may share it.

    Every method takes the seconds that it may last and raises InferenceServerException.
    """

    def __init__(self, transport: Any) -> None:
        self._http = transport

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        finish(self._http.close())

    def get_headers(self, client_timeout: float) -> dict[str, str]:
        """See GrpcServer."""
        with _raised_as_tritonclient():
            return finish(self._http.headers(client_timeout))

    def get_server_metadata(self, client_timeout: float) -> service_pb2.ServerMetadataResponse:
        """Name and version."""
        return self._read("/v2", service_pb2.ServerMetadataResponse(), client_timeout)

    def is_server_ready(self, client_timeout: float) -> bool:
        """Whether all models are ready."""
        return self._is_fine("/v2/health/ready", client_timeout)

    def is_model_ready(self, model: str, client_timeout: float) -> bool:
        """Whether a version of the model is ready."""
        return self._is_fine(f"{model_path(model)}/ready", client_timeout)

    def get_model_metadata(
        self, model: str, client_timeout: float
    ) -> service_pb2.ModelMetadataResponse:
        """The versions that are ready, and the tensors."""
        return self._read(model_path(model), service_pb2.ModelMetadataResponse(), client_timeout)

    def get_model_config(
        self, model: str, client_timeout: float
    ) -> service_pb2.ModelConfigResponse:
        """The configuration that it runs with."""
        answer = service_pb2.ModelConfigResponse()
        self._read(f"{model_path(model)}/config", answer.config, client_timeout)
        return answer

    def get_inference_statistics(
        self, client_timeout: float
    ) -> service_pb2.ModelStatisticsResponse:
        """What all models have counted."""
        return self._read("/v2/models/stats", service_pb2.ModelStatisticsResponse(), client_timeout)

    def _read(self, path: str, answer: Answer, seconds: float) -> Answer:
        said = self._get(path, seconds)
        try:
            return json_format.Parse(said, answer, ignore_unknown_fields=True)
        except (json_format.ParseError, UnicodeDecodeError):
            raise InferenceServerException("the answer is not Triton's", "UNAVAILABLE") from None

    def _is_fine(self, path: str, seconds: float) -> bool:
        try:
            self._get(path, seconds)
        except InferenceServerException as error:
            if error.status() == "INVALID_ARGUMENT":  # how Triton says no
                return False
            raise
        return True

    def _get(self, path: str, seconds: float) -> bytes:
        with _raised_as_tritonclient():
            return bytes(finish(self._http.get(path, seconds)))


@contextmanager
def _raised_as_tritonclient() -> Iterator[None]:
    try:
        yield
    except NotTriton as refused:
        raise InferenceServerException(refused.said, "UNAVAILABLE") from None
    except Refused as refused:
        raise InferenceServerException(refused.said, refused.status) from None
