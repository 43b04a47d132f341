"""The editor of corrections: boxes are drawn, moved, removed and renamed over the photo, and saved.

It is one `gr.HTML` whose markup, style and script lie beside this file. The server sends it

    {"image", "name", "photo", "width", "height", "classes", "boxes", "notice"}   a photo to correct
    {"image", "notice"}                                     what became of saving, or why it cannot

and it sends back the event "save" with {"image", "boxes"}. Nothing of that is believed: the photo
is the one that the server remembers for this visitor, and `demo.corrections` checks every box.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import gradio as gr

from client import Result, drawing
from client.errors import InvalidImage
from demo.corrections import SMALLEST_SIDE, CorrectedBox, CorrectionError, Corrections, image_id

SHOWN_SIDE = 1600  # pixels, the longer side of the copy the browser gets
GONE = "This photo is no longer on the server. Please drop it again."
QUIETLY: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Opened:
    """The photo that a visitor is correcting, as the server remembers it."""

    image: str
    path: Path


def correction_editor(
    corrections: Corrections,
    shown: Sequence[gr.components.Component],
    current: Callable[..., tuple[Path, Result] | None],
) -> gr.Button:
    """A button that opens the editor, and below it the editor; both where they are called.

    Args:
        corrections: where to store.
        shown: components, `gr.State` most of all, that tell which photo the visitor sees.
        current: makes of their values the photo's path and what was found in it, or None.
    """

    def show(*values: Any) -> tuple[Opened | None, dict[str, Any]]:
        found = current(*values)
        if found is None:
            return None, notice("", "Choose a photo first.")
        path, result = found
        try:
            photo = path.read_bytes()
            return Opened(image_id(photo), path), photo_to_correct(
                corrections, photo, path.name, result
            )
        except (OSError, InvalidImage):
            return None, notice("", GONE)

    def save(event: gr.EventData, opened: Opened | None) -> dict[str, Any]:
        sent = event._data if isinstance(event._data, dict) else {}
        return answer(corrections, sent, opened)

    opened = gr.State(None)
    button = gr.Button("Correct the boxes", elem_id="correct")
    here = Path(__file__).with_suffix("")
    editor = gr.HTML(
        html_template=here.with_suffix(".html").read_text(encoding="utf-8"),
        css_template=here.with_suffix(".css").read_text(encoding="utf-8"),
        js_on_load=here.with_suffix(".js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="corrections",
    )
    button.click(show, list(shown), [opened, editor], **QUIETLY)
    editor.save(save, opened, editor, **QUIETLY)
    return button


def answer(corrections: Corrections, sent: dict[str, Any], opened: Opened | None) -> dict[str, Any]:
    """Stores what a browser sent, for the photo that it was given; tells what became of it."""
    image = str(sent.get("image"))
    if opened is None or opened.image != image:
        return notice(image, "Another photo has been opened since. Please open this one again.")
    try:
        count = corrections.save(opened.path.read_bytes(), sent.get("boxes"))
    except OSError:
        return notice(image, GONE)
    except CorrectionError as error:
        return notice(image, str(error))
    boxes = "1 box" if count == 1 else f"{count} boxes"
    return notice(image, f"Saved with {boxes}. Thank you.", kind="saved")


def notice(image: str, text: str, kind: str = "error") -> dict[str, Any]:
    """A sentence for the editor; `kind` is "hint", "saved" or "error"."""
    at = time.time_ns()  # so that the same sentence twice is news both times
    return {"image": image, "notice": {"kind": kind, "text": text, "at": at}}


def photo_to_correct(
    corrections: Corrections, photo: bytes, name: str, result: Result
) -> dict[str, Any]:
    """The photo with the boxes that were stored for it before, else with those that were found."""
    stored = corrections.load(photo)
    picture_bgr = drawing.read(photo)
    height, width = picture_bgr.shape[:2]
    boxes = found_boxes(result, width, height) if stored is None else stored
    before = "Somebody has corrected this photo before: these are the boxes that were saved."
    return {
        **notice(image_id(photo), "" if stored is None else before, kind="hint"),
        "name": name,
        "photo": browser_copy(picture_bgr),
        "width": width,
        "height": height,
        "classes": [class_shown(k, label) for k, label in enumerate(corrections.labels)],
        "boxes": [asdict(box) for box in boxes],
    }


def found_boxes(result: Result, width: int, height: int) -> tuple[CorrectedBox, ...]:
    """Detections in whole pixels, as large as they must at least be to be stored."""
    boxes = []
    for found in result.detections:
        x1, x2 = whole(found.box.x1, found.box.x2, width)
        y1, y2 = whole(found.box.y1, found.box.y2, height)
        boxes.append(CorrectedBox(found.label, x1, y1, x2, y2))
    return tuple(boxes)


def whole(start: float, end: float, size: int) -> tuple[int, int]:
    """Both edges of a box along a side of the photo in whole pixels, inside it."""
    first = max(0, min(round(start), size - SMALLEST_SIDE))
    return first, min(max(round(end), first + SMALLEST_SIDE), size)


def browser_copy(picture_bgr: Any) -> str:
    """A JPEG as a data URL, its longer side 1600 pixels at most."""
    scale = SHOWN_SIDE / max(picture_bgr.shape[:2])
    if scale < 1:
        picture_bgr = cv2.resize(
            picture_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
        )
    jpeg = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def class_shown(k: int, label: str) -> dict[str, str]:
    """A class, its colour in `client.drawing` too, and black or white to write on it."""
    red, green, blue = drawing.colour(k)
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "white"
    return {"label": label, "colour": f"rgb({red},{green},{blue})", "ink": ink}
