"""Frames of the visitor's own camera: the browser sends one, and the next when it is answered."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from typing import Any

from client import Detector, InvalidImage
from demo import pictures
from demo.messages import explained
from demo.photos import FLOOR

FRAME_LIMIT = 4 * 2**20  # characters of base64; a JPEG of 1280 x 720 has some 200,000


def frames_to(detector: Detector) -> Callable[[list[Any]], dict[str, Any]]:
    """A function for the page: a JPEG as base64 and the IoU threshold in, what was found out."""

    def detect_frame(request: list[Any]) -> dict[str, Any]:
        """Return what `Result.to_dict` tells, "colours" and "milliseconds"; or "error"."""
        try:
            frame, iou = request
            started = time.perf_counter()
            result = detector.detect(_jpeg(frame), score_threshold=FLOOR, iou_threshold=iou)
            milliseconds = 1000 * (time.perf_counter() - started)
        except Exception as error:
            return {"error": explained(error, "The frame")}
        colours = pictures.colours([result])
        return result.to_dict() | {"colours": colours, "milliseconds": milliseconds}

    return detect_frame


def _jpeg(frame: str) -> bytes:
    if len(frame) > FRAME_LIMIT:
        raise InvalidImage("The camera's pictures are too large for this page.")
    try:
        return base64.b64decode(frame, validate=True)
    except binascii.Error:
        raise InvalidImage("The page sent no picture.") from None
