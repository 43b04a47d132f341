"""The editor of corrections: boxes are drawn, moved, removed and renamed over the photo, and saved.

It is one `gr.HTML` whose markup, style and script lie beside this file. The server sends it

    {"image", "name", "photo", "width", "height", "classes", "boxes", "notice"}   a photo to correct
    {"image", "notice"}                                     what became of saving, or why it cannot

and it sends back the event "save" with {"image", "boxes"}. Nothing of that is believed: the photo
is the one that the server remembers for this visitor, and `demo.corrected_boxes` checks every box.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from client import Result
from client.detect.formats.voc import whole_pixels
from demo import pictures
from demo.corrected_boxes import CorrectedBox, CorrectionError
from demo.corrections import Corrections, image_id
from demo.messages import explained
from demo.views import QUIETLY


@dataclass(frozen=True)
class Opened:
    """The photo that a visitor is correcting, as the server remembers it."""

    image: str
    path: Path


def correction_editor(
    corrections: Corrections,
    shown: Sequence[Component],
    current: Callable[..., tuple[Path, Result] | None],
) -> None:
    """A button that opens the editor, and below it the editor; both where this is called.

    Args:
        corrections: where to store.
        shown: components, `gr.State` most of all, that tell which photo the visitor sees.
        current: makes of their values the photo's path and what was found in it, or None.
    """

    def show(*values: Any) -> tuple[Opened | None, dict[str, Any]]:
        return photo_to_correct(corrections, current(*values))

    def save(event: gr.EventData, opened: Opened | None) -> dict[str, Any]:
        sent = event._data if isinstance(event._data, dict) else {}
        return answer(corrections, sent, opened)

    opened = gr.State(None)
    button = gr.Button("Correct the boxes", elem_id="correct")
    here = Path(__file__)
    editor = gr.HTML(
        html_template=here.with_suffix(".html").read_text(encoding="utf-8"),
        css_template=here.with_suffix(".css").read_text(encoding="utf-8"),
        js_on_load=here.with_suffix(".js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="corrections",
    )
    button.click(show, list(shown), [opened, editor], **QUIETLY)
    editor.save(save, opened, editor, **QUIETLY)


def photo_to_correct(
    corrections: Corrections, found: tuple[Path, Result] | None
) -> tuple[Opened | None, dict[str, Any]]:
    """The photo with the boxes that were stored for it before, else with those that were found."""
    if found is None:
        return None, notice("", "Choose a photo first.")
    path, result = found
    try:
        photo = pictures.read_photo(str(path))
        copy = pictures.copies(str(path), photo)["image"]
    except Exception as error:
        return None, notice("", explained(error, path.name)["text"])
    opened = Opened(image_id(photo), path)
    stored = corrections.load(photo)
    before = "Somebody has corrected this photo before: these are the boxes that were saved."
    return opened, {
        **notice(opened.image, "" if stored is None else before, kind="hint"),
        "name": path.name,
        "photo": copy,
        "width": result.width,
        "height": result.height,
        "classes": [
            {"label": label, **pictures.css(k)} for k, label in enumerate(corrections.labels)
        ],
        "boxes": [asdict(box) for box in (found_boxes(result) if stored is None else stored)],
    }


def answer(corrections: Corrections, sent: dict[str, Any], opened: Opened | None) -> dict[str, Any]:
    """Stores what a browser sent, for the photo that it was given; tells what became of it."""
    image = str(sent.get("image"))
    if opened is None or opened.image != image:
        return notice(image, "Another photo has been opened since. Please open this one again.")
    try:
        count = corrections.save(pictures.read_photo(str(opened.path)), sent.get("boxes"))
    except CorrectionError as error:
        return notice(image, str(error))
    except Exception as error:
        return notice(image, explained(error, opened.path.name)["text"])
    boxes = "1 box" if count == 1 else f"{count} boxes"
    return notice(image, f"Saved with {boxes}. Thank you.", kind="saved")


def notice(image: str, text: str, kind: str = "error") -> dict[str, Any]:
    """A sentence for the editor; `kind` is "hint", "saved" or "error"."""
    at = time.time_ns()  # so that the same sentence twice is news both times
    return {"image": image, "notice": {"kind": kind, "text": text, "at": at}}


def found_boxes(result: Result) -> tuple[CorrectedBox, ...]:
    """Detections in whole pixels, as large as they must at least be to be stored."""
    boxes = []
    for found in result.detections:
        x1, x2 = whole_pixels(found.box.x1, found.box.x2, result.width)
        y1, y2 = whole_pixels(found.box.y1, found.box.y2, result.height)
        boxes.append(CorrectedBox(found.label, x1, y1, x2, y2))
    return tuple(boxes)
