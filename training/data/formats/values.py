"""Values that files give, checked: class names, numbers, flags, objects."""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from training.data.annotations import Object
from training.data.problems import (
    BadObjectError,
    FatalFor,
    Kind,
    PointError,
    Problem,
    UnknownClassError,
    ZeroAreaError,
    brief,
)

Record = TypeVar("Record")  # an object as a format has it
LABEL_LIMIT = 200  # characters of a class name
NO, YES = ("", "no", "none", "false", "unknown", "unspecified"), ("yes", "true")  # in flags


def clean_label(text: object) -> str:
    """A class name without needless space; BadObjectError where it is no printable text."""
    label = " ".join(text.split()) if isinstance(text, str) else ""
    if not 0 < len(label) <= LABEL_LIMIT:
        raise BadObjectError(f"expected a class name, found {brief(text)}")
    if not label.isprintable():
        raise BadObjectError(f"a class name that cannot be printed: {brief(label)}")
    return label


def finite(value: object, name: str) -> float:
    """A number from a file; BadObjectError where it is none, not finite or too large."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise BadObjectError(f"expected a number in {name}, found {brief(value)}")
    return found


def flag(value: object, name: str) -> tuple[bool, tuple[str, ...]]:
    """Whether a flag is set: above 0, for some write shares; and a remark where nobody can tell."""
    text = "" if value is None else str(value).strip().lower()
    if text in (*NO, *YES):
        return text in YES, ()
    try:
        return finite(text, name) > 0, ()
    except BadObjectError:
        return False, (f"expected 0 or 1 in {name}, found {brief(value)}; taken for 0",)


def check_area(width: float, height: float, text: str) -> None:
    """ZeroAreaError where a box has none; PointError where it has neither width nor height."""
    if width <= 0 or height <= 0:
        kind = PointError if width == height == 0 else ZeroAreaError
        raise kind(f"expected a width and a height above 0, found {text}")


def _object_problem(error: BadObjectError, file: str, index: int) -> Problem:
    """The problem that an object's error is."""
    kinds: dict[type, Kind] = {ZeroAreaError: "zero area", UnknownClassError: "unknown class"}
    kind: Kind = next((kinds[cls] for cls in type(error).mro() if cls in kinds), "bad object")
    fatal_for: FatalFor = "box" if isinstance(error, PointError) else "image"
    return Problem(file, index, kind, str(error), fatal_for)


def parse_objects(
    records: Iterable[tuple[int, Record]], file: str, parse: Callable[[Record, int], Object]
) -> tuple[tuple[Object, ...], tuple[Problem, ...]]:
    """The usable objects among an annotation's records, each with its place, and the others."""
    objects, problems = [], []
    for index, record in records:
        try:
            item = parse(record, index)
        except BadObjectError as error:
            problems.append(_object_problem(error, file, index))
            continue
        objects.append(item)
        problems += [Problem(file, index, "bad flag", text, "nothing") for text in item.remarks]
    return tuple(objects), tuple(problems)
