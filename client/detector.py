"""Detector: images in, results out, over one gRPC channel to a Triton server."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE, InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from client import canary
from client.detection import Result
from client.errors import (
    DetectorError,
    InvalidParameter,
    ServerError,
    ServerUnavailable,
    from_grpc,
)
from client.images import Image, encoded, name_of
from client.ordered import in_order
from client.tensors import Parameters, request_input, request_parameters, result_of

CanaryKey = str | Callable[[Any], str] | None
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # silent, unless the program asks for it


class Detector:
    """Sends images to a Triton server and returns what it detects in them.

    Opening costs nothing: the connection is made by the first request, reused by all that follow,
    and made again within a second or two after the server was away. Threads may share a detector;
    a process forked off needs its own.

    Args:
        url: the server's gRPC address as host:port, without http://.
        model: the ensemble's name on the server.
        timeout: seconds that one image may take from sending to answer.
        canary_key: whom the requests are for, such as a camera's name. If the model has a canary, a
            share of all keys is answered by it, each always on the same side; see docs/client.md.
            Empty: the stable model answers.

    Raises:
        InvalidParameter: the address is not host:port, or the timeout is not above 0.
    """

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        *,
        model: str = "ensemble",
        timeout: float = 30.0,
        canary_key: str = "",
    ) -> None:
        if not (0 < timeout < math.inf):
            raise InvalidParameter(f"timeout must be seconds above 0, but got {timeout}")
        self.url = url
        self.model = model
        self.timeout = timeout
        self.canary_key = canary_key
        self._knowledge = canary.Knowledge(self._ask_for_canary)
        self._closed = False
        self._client = InferenceServerClient(url, channel_args=_channel_args(_host(url)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; requests still under way are cancelled."""
        self._closed = True
        self._client.close()

    def detect(
        self,
        image: Image,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        canary_key: str | None = None,
    ) -> Result:
        """Return what the server detects in one image.

        Args:
            image: a path; the bytes of an encoded file (JPEG, PNG, BMP, WebP, TIFF), sent as they
                are; or a uint8 array, RGB [H, W, 3] or grey [H, W], sent as a lossless PNG.
            score_threshold: 0..1, detections with a lower score are left out.
            iou_threshold: 0..1, of two boxes of one class that overlap more only the better stays.
            max_detections: how many at most. Each of the three: None is the server's default.
            canary_key: whom the image is for, None: the detector's own key.

        Raises:
            DetectorError: one of the tree in `client.errors`.
            TypeError: the image is none of these.
        """
        return self._detect(
            image,
            request_parameters(
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
            ),
            canary_key,
        )

    @overload
    def detect_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = ...,
        errors: Literal["raise"] = ...,
        canary_key: CanaryKey = ...,
        **parameters: Unpack[Parameters],
    ) -> Iterator[Result]: ...

    @overload
    def detect_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = ...,
        errors: Literal["return"],
        canary_key: CanaryKey = ...,
        **parameters: Unpack[Parameters],
    ) -> Iterator[Result | DetectorError]: ...

    def detect_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = 8,
        errors: Literal["raise", "return"] = "raise",
        canary_key: CanaryKey = None,
        **parameters: Unpack[Parameters],
    ) -> Iterator[Any]:
        """Yield the results of many images in their order.

        The images are taken from the iterable as the results are consumed, no more than
        `concurrency` of them at a time, so it may be endless and memory stays bounded.

        Args:
            images: as for `detect`, mixed as you like.
            concurrency: requests under way at once, 1 or more.
            errors: "raise" raises the first failing image's error in its turn and ends; "return"
                yields the DetectorError in that image's place and goes on.
            canary_key: one for all images; or a function of an image that returns one, such as
                `str` for paths. None: the detector's own key.
            parameters: the three of `detect`, for all images.
        """
        detect = partial(self._detect, parameters=request_parameters(**parameters))
        key_of = canary_key if callable(canary_key) else lambda _: canary_key
        tasks = (partial(detect, image, canary_key=key_of(image)) for image in images)
        return in_order(tasks, concurrency, errors)

    def _detect(
        self, image: Image, parameters: dict[str, float | int], canary_key: str | None
    ) -> Result:
        tensor, name = request_input(encoded(image)), name_of(image)
        send = partial(self._infer, tensor, parameters, name, time.monotonic() + self.timeout)
        model = self._model_for(self.canary_key if canary_key is None else canary_key)
        if model != self.model:
            try:
                return send(model)
            except (ServerError, ServerUnavailable) as error:
                # The canary's failure or its end. The server has counted it; the user is spared it.
                if self._closed:
                    raise
                self._knowledge.doubt()
                logger.warning("%s failed, %s answers instead: %s", model, self.model, error)
        return send(self.model)

    def _infer(
        self,
        tensor: InferInput,
        parameters: dict[str, float | int],
        name: str,
        deadline: float,
        model: str,
    ) -> Result:
        left = deadline - time.monotonic()
        try:
            answer = self._client.infer(model, [tensor], parameters=parameters, client_timeout=left)
        except InferenceServerException as error:
            raise from_grpc(error, address=self.url, image=name, timeout=self.timeout) from None
        return result_of(answer)

    def _model_for(self, key: str) -> str:
        """Return the ensemble that answers this key; without a key the canary costs nothing."""
        found = self._knowledge.get(self.timeout) if key else None
        return found.name if found and found.takes(key) else self.model

    def _ask_for_canary(self, seconds: float) -> canary.Canary | None:
        try:
            answer = self._client.get_model_config(
                canary.name_of(self.model), client_timeout=seconds
            )
        except InferenceServerException:  # there is none, most likely
            return None
        return canary.read(self.model, answer.config)


def _host(url: str) -> str:
    """Return the host of host:port."""
    parts = re.fullmatch(r"([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", url)
    if parts is None:
        raise InvalidParameter(
            f"the address must be host:port of Triton's gRPC port, "
            f"such as 127.0.0.1:8001, but got {url!r}"
        )
    return parts[1]


def _channel_args(host: str) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_SIZE),
        ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_SIZE),
        # gRPC would let a restarted server wait for up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # gRPC sends even loopback connections through $http_proxy.
        ("grpc.enable_http_proxy", int(host not in LOOPBACK)),
    ]
