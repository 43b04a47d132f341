"""AsyncDetector: images in, results out, for programs with an event loop."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, Literal, Self, Unpack, overload

from client import ordered_async
from client.base_detector import BaseDetector, CanaryKey
from client.detection import Result
from client.errors import DetectorError
from client.images import Image
from client.ordered import check_options
from client.runtime import Tasks
from client.tensors import Parameters, request_parameters


class AsyncDetector(BaseDetector):
    """A detector that the tasks of one event loop may share, that of its first request."""

    _runtime = Tasks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; requests still under way are cancelled."""
        await self._close()

    async def detect(
        self,
        image: Image,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        canary_key: str | None = None,
    ) -> Result:
        """Return what the server detects in one image; all is as in `Detector.detect`.

        When the task is cancelled, so is the request.
        """
        parameters = request_parameters(
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )
        return await self._detect(image, parameters, canary_key)

    @overload
    def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        concurrency: int = ...,
        errors: Literal["raise"] = ...,
        canary_key: CanaryKey = ...,
        **parameters: Unpack[Parameters],
    ) -> AsyncGenerator[Result, None]: ...

    @overload
    def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        concurrency: int = ...,
        errors: Literal["return"],
        canary_key: CanaryKey = ...,
        **parameters: Unpack[Parameters],
    ) -> AsyncGenerator[Result | DetectorError, None]: ...

    def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        concurrency: int = 8,
        errors: Literal["raise", "return"] = "raise",
        canary_key: CanaryKey = None,
        **parameters: Unpack[Parameters],
    ) -> AsyncGenerator[Any, None]:
        """Yield the results of many images in their order; all is as in `Detector.detect_many`.

        The images may come from an `async for` too. Whoever leaves the loop early and wants the
        requests under way cancelled at once wraps the iterator in `contextlib.aclosing`.
        """
        check_options(concurrency, errors)
        given = request_parameters(**parameters)
        key_of = canary_key if callable(canary_key) else lambda _: canary_key
        return ordered_async.in_order(
            images,
            lambda image: self._detect(image, given, key_of(image)),
            concurrency,
            raising=errors == "raise",
        )
