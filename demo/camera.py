"""Frames of the visitor's own camera: the browser sends one, and the next when it is answered."""

import base64
import binascii
import time
from collections.abc import Callable, Coroutine
from typing import Any

from anyio import CapacityLimiter, to_thread

from client import Detector, InvalidImage
from demo import pictures
from demo.messages import explained, message
from demo.photos import FLOOR

FRAME_LIMIT = 2 * 2**20  # characters of base64; a JPEG of 1280 x 720 has some 200,000
AT_ONCE = 8  # frames of all visitors under way at the same time
WAITING = 24  # more of them, for their turn; each visitor has one
BUSY = message(
    "Too many cameras at once",
    "This page's server has no time for another one now. Try again in a while.",
    "error",
)


def frames_to(detector: Detector) -> Callable[[list[Any]], Coroutine[Any, Any, dict[str, Any]]]:
    """A function for the page: a JPEG as base64 and the IoU threshold in, what was found out.

    The browser calls it past Gradio's queue, which would cost a frame more time than detecting. So
    it has threads of its own, and a queue of its own that ends.
    """
    turn = CapacityLimiter(AT_ONCE)

    async def detect_frame(request: list[Any]) -> dict[str, Any]:
        """Return what `Result.to_dict` tells, "colours" and "milliseconds"; or "error"."""
        if turn.statistics().tasks_waiting >= WAITING:
            return {"error": BUSY}
        return await to_thread.run_sync(_answer, detector, request, limiter=turn)

    return detect_frame


def _answer(detector: Detector, request: list[Any]) -> dict[str, Any]:
    try:
        frame, iou = request
        started = time.perf_counter()
        result = detector.detect(_jpeg(frame), score_threshold=FLOOR, iou_threshold=iou)
        milliseconds = 1000 * (time.perf_counter() - started)
    except Exception as error:
        return {"error": explained(error, "The frame")}
    colours = pictures.colours([result])
    return result.to_dict() | {"colours": colours, "milliseconds": milliseconds}


def _jpeg(frame: str) -> bytes:
    if len(frame) > FRAME_LIMIT:
        raise InvalidImage("The camera's pictures are too large for this page.")
    try:
        return base64.b64decode(frame, validate=True)
    except binascii.Error:
        raise InvalidImage("The page sent no picture.") from None
