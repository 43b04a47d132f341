"""The questions of `client.service` to one server, by gRPC or HTTP, with TLS and keys.

By gRPC it is tritonclient that asks. Its HTTP client answers in other types and knows no timeout of
one request, so `RestServer` asks by HTTP, under the same names and with the same answers.
"""

import json
from http.client import HTTPException
from typing import Any, Self, TypeVar
from urllib import request
from urllib.error import HTTPError, URLError

from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import InferenceServerClient, InferenceServerClientPlugin, service_pb2
from tritonclient.utils import InferenceServerException

from client.transports.addresses import Address, parse
from client.transports.security import Security

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
}
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
    (address,) = parse([url])
    if address.protocol == "HTTP":
        return RestServer(address, security)
    client = InferenceServerClient(
        address.authority,
        creds=security.credentials() if address.is_encrypted else None,
        # gRPC sends even loopback connections through $http_proxy.
        channel_args=[("grpc.enable_http_proxy", int(not address.is_loopback))],
    )
    client.register_plugin(_Headers(security.headers()))
    return client


class _Headers(InferenceServerClientPlugin):
    """Adds headers to each request."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: Any) -> None:
        request.headers = {**(request.headers or {}), **self._headers}


class RestServer:
    """One server; a connection for each question.

    Every method takes the seconds that it may last and raises InferenceServerException.
    """

    def __init__(self, address: Address, security: Security) -> None:
        self._url = f"{address.scheme}://{address.authority}{address.path}/v2"
        self._headers = security.headers()
        handlers: list[Any] = [request.ProxyHandler({})]  # as a Detector: straight to the server
        if address.is_encrypted:
            handlers.append(request.HTTPSHandler(context=security.context()))
        self._opener = request.build_opener(*handlers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """There is nothing to close."""

    def get_server_metadata(self, client_timeout: float) -> service_pb2.ServerMetadataResponse:
        """Name and version."""
        return self._read("", service_pb2.ServerMetadataResponse(), client_timeout)

    def is_server_ready(self, client_timeout: float) -> bool:
        """Whether all models are ready."""
        return self._is_fine("/health/ready", client_timeout)

    def is_model_ready(self, model: str, client_timeout: float) -> bool:
        """Whether a version of the model is ready."""
        return self._is_fine(f"/models/{model}/ready", client_timeout)

    def get_model_metadata(
        self, model: str, client_timeout: float
    ) -> service_pb2.ModelMetadataResponse:
        """The versions that are ready, and the tensors."""
        return self._read(f"/models/{model}", service_pb2.ModelMetadataResponse(), client_timeout)

    def get_model_config(
        self, model: str, client_timeout: float
    ) -> service_pb2.ModelConfigResponse:
        """The configuration that it runs with."""
        answer = service_pb2.ModelConfigResponse()
        self._read(f"/models/{model}/config", answer.config, client_timeout)
        return answer

    def get_inference_statistics(
        self, client_timeout: float
    ) -> service_pb2.ModelStatisticsResponse:
        """What all models have counted."""
        return self._read("/models/stats", service_pb2.ModelStatisticsResponse(), client_timeout)

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
        try:
            asked = request.Request(self._url + path, headers=self._headers)
            with self._opener.open(asked, timeout=seconds) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            with error:
                raise _refusal(error.code, error.read()) from None
        except (URLError, OSError, HTTPException) as error:  # the last: not HTTP at all
            said = str(getattr(error, "reason", error))
            raise InferenceServerException(said, "UNAVAILABLE") from None


def _refusal(status: int, said: bytes) -> InferenceServerException:
    """Return what a failure means; where it is not Triton that speaks: that Triton is not there."""
    try:
        message = str(json.loads(said)["error"]) if said else ""
    except (ValueError, KeyError, TypeError):
        return InferenceServerException(f"HTTP status {status}", "UNAVAILABLE")
    return InferenceServerException(message, STATUSES.get(status, "INTERNAL"))
