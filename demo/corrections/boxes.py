"""The boxes that a browser sent, and the classes that they may have: nothing of it is believed.

Raises: `CorrectionError`, with a sentence for the person who made the correction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from client.inbox.voc_xml import SMALLEST_SIDE

MOST_BOXES = 500
LABEL_LIMIT = 200  # characters, as in `training`


class CorrectionError(Exception):
    """A correction, or the folder for them, cannot be used; the text says why."""


@dataclass(frozen=True)
class CorrectedBox:
    """Whole pixels of the upright photo: 0 <= x1, x1 + 2 <= x2 <= width, y likewise.

    difficult: VOC's flag for what people are not sure of; `training` neither rewards nor punishes
        a detection there.
    """

    label: str
    x1: int
    y1: int
    x2: int
    y2: int
    difficult: bool = False


def read_labels(file: str, content: bytes | None, served: Sequence[str]) -> tuple[str, ...]:
    """The file's lines, or the served classes where there is no such file.

    Args:
        file: what it is called.
        content: of it; None where there is none.
        served: the classes.
    """
    try:
        labels = served if content is None else content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise CorrectionError(f"{file}: expected UTF-8 text: {error}") from error
    labels = tuple(label.strip() for label in labels if label.strip())
    if not labels:
        raise CorrectionError(
            f"{file}: no such file, or an empty one; write the classes into it, one a line, in the "
            "order of the served model's labels.txt"
        )
    if len(set(labels)) < len(labels) or not all(map(is_label, labels)):
        raise CorrectionError(f"{file}: expected different, printable names, found {labels}")
    return labels


def is_label(text: str) -> bool:
    return text.isprintable() and len(text) <= LABEL_LIMIT and text == " ".join(text.split())


def check_boxes(
    boxes: Any, labels: Sequence[str], width: int, height: int
) -> tuple[CorrectedBox, ...]:
    """The boxes as such, if all of them can be stored; CorrectionError says which one cannot."""
    if not isinstance(boxes, list):
        raise CorrectionError("The page sent no list of boxes. Please load it anew.")
    if len(boxes) > MOST_BOXES:
        raise CorrectionError(f"{len(boxes)} boxes; at most {MOST_BOXES} can be stored.")
    return tuple(
        check_box(box, number, labels, width, height) for number, box in enumerate(boxes, start=1)
    )


def check_box(
    box: Any, number: int, labels: Sequence[str], width: int, height: int
) -> CorrectedBox:
    """One box, its edges rounded to whole pixels."""
    if not isinstance(box, dict):
        raise CorrectionError(f"Box {number} is no box. Please load the page anew.")
    label, difficult = box.get("label"), box.get("difficult", False)
    if label not in labels:
        raise CorrectionError(f"Box {number}: choose one of the classes {', '.join(labels)}.")
    if not isinstance(difficult, bool):
        raise CorrectionError(f"Box {number}: expected true or false for its being unsure.")
    x1, y1, x2, y2 = (pixel(box.get(edge), number) for edge in ("x1", "y1", "x2", "y2"))
    if not (0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height):
        raise CorrectionError(
            f"Box {number} is not inside the photo, which is {width} x {height} pixels."
        )
    if min(x2 - x1, y2 - y1) < SMALLEST_SIDE:
        raise CorrectionError(
            f"Box {number} is {x2 - x1} x {y2 - y1} pixels; "
            f"at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed."
        )
    return CorrectedBox(str(label), x1, y1, x2, y2, difficult)


def pixel(value: Any, number: int) -> int:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not abs(value) < 1e9:  # nor infinite, nor not a number
        raise CorrectionError(f"Box {number}: each of its edges has to be a number.")
    return round(value)
