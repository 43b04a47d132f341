"""Requests by gRPC: one channel to one server, for threads or for tasks.

The stubs and messages are tritonclient's. Its client is left out: it copies each image once more,
and what it raises and returns would have to be translated back.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import grpc
from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE, service_pb2, service_pb2_grpc

from client.errors import Refused
from client.tensors import Output, arrays_of, packed, timeout
from client.transports.addresses import Address
from client.transports.base import Answer, Request, Transport
from client.transports.retries import read_hint
from client.transports.security import Security

Metadata = tuple[tuple[str, str], ...]
Reply = tuple[Any, dict[str, str]]  # the response, and its headers
CONNECT_MS = 3000  # how long one attempt to connect may take; gRPC itself would give it 20 s


class Grpc(Transport):
    """What both flavours share: the messages."""

    def __init__(self, address: Address, security: Security, headers: Mapping[str, str]) -> None:
        self._address = address
        self._credentials = security.credentials() if address.is_encrypted else None
        self._metadata: Metadata = tuple(headers.items())

    async def infer(self, request: Request, seconds: float) -> Answer:
        """See Transport."""
        message, more = _message(request, seconds), tuple(request.headers.items())
        response, _ = await self._call("ModelInfer", message, seconds, more)
        raw = response.raw_output_contents
        outputs = (
            Output(tensor.name, tensor.datatype, tensor.shape, data)
            for tensor, data in zip(response.outputs, raw, strict=False)
        )
        return Answer(response.model_name, arrays_of(outputs))

    async def parameters(self, model: str, seconds: float) -> dict[str, str]:
        """See Transport."""
        message = service_pb2.ModelConfigRequest(name=model)
        response, _ = await self._call("ModelConfig", message, seconds)
        return {name: it.string_value for name, it in response.config.parameters.items()}

    async def headers(self, seconds: float) -> dict[str, str]:
        """See Transport."""
        _, headers = await self._call("ServerLive", service_pb2.ServerLiveRequest(), seconds)
        return headers

    @abstractmethod
    async def _call(self, method: str, message: Any, seconds: float, more: Metadata = ()) -> Reply:
        """Send one message, with `more` metadata than each has."""

    def _channel(self, kind: Any) -> Any:
        """Return a channel of grpc or of grpc.aio."""
        target, options = self._address.authority, _options(self._address)
        if self._credentials is None:
            return kind.insecure_channel(target, options=options)
        return kind.secure_channel(target, self._credentials, options=options)


class BlockingGrpc(Grpc):
    """For threads."""

    def __init__(self, address: Address, security: Security, headers: Mapping[str, str]) -> None:
        super().__init__(address, security, headers)
        self._opened = self._channel(grpc)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._opened)

    async def close(self) -> None:
        """See Transport."""
        self._opened.close()

    async def _call(self, method: str, message: Any, seconds: float, more: Metadata = ()) -> Reply:
        send = getattr(self._stub, method).with_call
        try:
            response, call = send(message, timeout=seconds, metadata=self._metadata + more)
            return response, dict(call.initial_metadata())
        except grpc.RpcError as error:
            raise _refused(error) from None
        except ValueError as error:  # the channel was closed a moment ago
            raise Refused("CANCELLED", str(error)) from None


class AsyncGrpc(Grpc):
    """For tasks. The channel belongs to the event loop of the first request."""

    def __init__(self, address: Address, security: Security, headers: Mapping[str, str]) -> None:
        super().__init__(address, security, headers)
        self._opened: Any = None
        self._stub: Any = None
        self._closed = False

    async def close(self) -> None:
        """See Transport."""
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    async def _call(self, method: str, message: Any, seconds: float, more: Metadata = ()) -> Reply:
        if self._opened is None:
            self._opened = self._channel(grpc.aio)
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._opened)
        send = getattr(self._stub, method)
        try:
            call = send(message, timeout=seconds, metadata=self._metadata + more)
            return await call, dict(await call.initial_metadata())
        except grpc.RpcError as error:
            raise _refused(error) from None
        except grpc.aio.UsageError as error:  # the channel was closed a moment ago
            raise Refused("CANCELLED", str(error)) from None
        except asyncio.CancelledError:
            # Closing the channel looks like this too, though nobody cancelled the task.
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise Refused("CANCELLED", "the channel was closed") from None
            raise


def _message(request: Request, seconds: float) -> Any:
    message = service_pb2.ModelInferRequest(model_name=request.model)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.raw_input_contents.append(packed(request.image))
    for name, value in {**request.parameters, **timeout(seconds)}.items():
        kind = "int64_param" if isinstance(value, int) else "double_param"
        setattr(message.parameters[name], kind, value)
    return message


def _refused(error: Any) -> Refused:
    # An error without a response has but one block of headers; gRPC counts them as trailing.
    headers = dict([*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())])
    return Refused(error.code().name, error.details() or "", read_hint(headers))


def _options(address: Address) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_SIZE),
        ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_SIZE),
        # gRPC would let a restarted server wait for up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),  # its name for an attempt's time
        # gRPC sends even loopback connections through $http_proxy.
        ("grpc.enable_http_proxy", int(not address.is_loopback)),
    ]
