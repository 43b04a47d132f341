"""Detector: images in, results out, for programs with threads or none."""

from collections.abc import Iterable, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any, Literal, Self, Unpack, overload

from client.base_detector import BaseDetector, CanaryKey
from client.detection import Result
from client.errors import DetectorError
from client.images import Image
from client.ordered import in_order
from client.runtime import Threads, finish
from client.tensors import Parameters, request_parameters


class Detector(BaseDetector):
    """A detector that threads may share; a process forked off needs its own."""

    _runtime = Threads()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; requests still under way are cancelled."""
        finish(self._close())

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
            TypeError: the image is something else.
        """
        parameters = request_parameters(
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )
        return finish(self._detect(image, parameters, canary_key))

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
        given = request_parameters(**parameters)
        key_of = canary_key if callable(canary_key) else lambda _: canary_key
        # A thread begins without the context of whoever wants the results, such as its trace.
        tasks = (
            partial(copy_context().run, self._task, image, given, key_of(image)) for image in images
        )
        return in_order(tasks, concurrency, errors)

    def _task(self, image: Image, parameters: dict[str, float | int], key: str | None) -> Result:
        return finish(self._detect(image, parameters, key))
