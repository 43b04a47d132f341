"""The page as a service: `/detect` for programs that speak Gradio's protocol (docs/demo.md)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from client import Detector
from demo import pictures
from demo.messages import explained


def detection_by(detector: Detector) -> Callable[..., dict[str, Any]]:
    """The function behind `/detect`, over this detector."""

    def detect(
        photo: dict[str, Any],
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> dict[str, Any]:
        """Detect objects in a photo.

        Parameters:
            photo: an image file, JPEG, PNG, BMP, WebP or TIFF: `handle_file("photo.jpg")`.
            score_threshold: 0 to 1, detections with a lower score are left out.
            iou_threshold: 0 to 1, of two boxes of one class that overlap more one stays.
            max_detections: how many at most. Left out, each of the three is the server's default.
        Returns:
            width, height, counts, detections, model: what `client.Result.to_dict` returns.
        """
        path = _uploaded(photo)
        try:
            result = detector.detect(
                pictures.read_photo(path),
                score_threshold=_number("score_threshold", score_threshold),
                iou_threshold=_number("iou_threshold", iou_threshold),
                max_detections=_whole("max_detections", max_detections),
            )
        except gr.Error:
            raise
        except Exception as error:
            told = explained(error, Path(path).name)
            raise _refused(f"{told['headline']}: {told['text']}") from None
        return result.to_dict()

    return detect


def _uploaded(photo: Any) -> str:
    """The path of a file that was uploaded; nothing else on this machine is read for anybody."""
    path = photo.get("path") if isinstance(photo, dict) else None
    if not isinstance(path, str):
        raise _refused('photo must be a file: handle_file("photo.jpg")')
    folder = Path(get_upload_folder()).resolve()
    if "\0" in path or not Path(path).resolve().is_relative_to(folder):
        raise _refused("photo must be an uploaded file")
    return path


def _number(name: str, value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise _refused(f"{name} must be a number, but got {value!r:.40}")
    return value


def _whole(name: str, value: Any) -> int | None:
    number = _number(name, value)
    if isinstance(number, float) and not number.is_integer():
        raise _refused(f"{name} must be a whole number, but got {number}")
    return None if number is None else int(number)


def _refused(text: str) -> gr.Error:
    return gr.Error(text, print_exception=False)
