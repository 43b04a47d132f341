"""What a Pascal VOC annotation says: XML without entities, pixels that count from 1."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree

from training.data import files
from training.data.annotations import Object
from training.data.formats.values import check_area, clean_label, finite, flag
from training.data.problems import BadObjectError, DataError

XML_LIMIT = 16 * 2**20  # bytes; a real annotation has a few thousand


def is_annotation(path: Path) -> bool:
    try:
        return parse_annotation(path) is not None
    except DataError:
        return False


def parse_annotation(path: Path) -> Element:
    """The <annotation> element; raises DataError with a reason that fits in a line."""
    try:
        root = ElementTree.fromstring(files.read_bytes(path, XML_LIMIT))
    except (ParseError, ValueError, LookupError, OSError) as error:
        # ValueError holds defusedxml's refusals and Python's encoding errors.
        raise DataError(f"not acceptable as XML: {type(error).__name__}: {error}") from error
    if root.tag != "annotation":
        raise DataError(f"expected <annotation> at the top, found {root.tag[:40]!r}")
    return root


def parse_object(element: Element, index: int) -> Object:
    label = clean_label(_text(element, "name"))
    box = element.find("bndbox")
    if box is None:
        raise BadObjectError("<bndbox> is missing")
    xmin, ymin, xmax, ymax = (_number(box, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    text = f"x {xmin:g} to {xmax:g}, y {ymin:g} to {ymax:g}"
    check_area(xmax - xmin, ymax - ymin, text)
    edges = (xmin - 1, ymin - 1, xmax, ymax)
    (difficult, doubts), (truncated, more) = (
        flag(element.findtext(tag), f"<{tag}>") for tag in ("difficult", "truncated")
    )
    return Object(index, label, edges, text, difficult, truncated, doubts + more)


def _text(element: Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise BadObjectError(f"<{tag}> is missing or empty")
    return text


def _number(element: Element, tag: str) -> float:
    return finite(_text(element, tag), f"<{tag}>")


def claimed_size(root: Element) -> tuple[float, float] | None:
    size = root.find("size")
    try:
        return None if size is None else (_number(size, "width"), _number(size, "height"))
    except BadObjectError:
        return None
