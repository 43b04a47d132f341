"""One photo, two ensembles: the live version beside its canary, or any other two.

Sent to the browser: {"sides": [side, side]}; a side is what `photos.answers` tells of the photo,
with "model", the ensemble that was asked. Which boxes belong together depends on the sliders, so
that is found out there.
"""

from collections.abc import Iterator
from typing import Any

from client import Detector, canary
from demo.facts import Facts
from demo.messages import message
from demo.photos import answers

NAME_LIMIT = 200  # letters, of an ensemble


def comparison(
    detector: Detector, facts: Facts, paths: list[str], iou: float | None, models: tuple[str, str]
) -> dict[str, Any]:
    """Ask both, one after the other, so that neither slows down the other.

    Args:
        detector: of the stable ensemble; tells address and timeout.
        facts: of the same server.
        paths: an uploaded photo; none: nothing to compare yet.
        iou: as for `photos.answers`.
        models: names of two ensembles.
    """
    if not paths:
        return {}
    if not all(isinstance(model, str) and 0 < len(model) <= NAME_LIMIT for model in models):
        text = f"Type the names of two, of {NAME_LIMIT} letters at most."
        return {"message": message("An ensemble has no name", text, "error")}
    missing = [model for model in models if not facts.has(model)]
    if missing:
        return {"message": _missing(missing[0])}
    return {"sides": [_side(detector, facts, paths, iou, model) for model in models]}


def _side(
    detector: Detector, facts: Facts, paths: list[str], iou: float | None, model: str
) -> dict[str, Any]:
    if model == detector.model:
        return _last(answers(detector, facts, paths, iou)) | {"model": model}
    url, timeout, security = detector.url, detector.timeout, detector.security
    with Detector(url, model=model, timeout=timeout, security=security) as other:
        return _last(answers(other, facts, paths, iou)) | {"model": model}


def _last(values: Iterator[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    *_, (last, _) = values
    return last


def _missing(model: str) -> dict[str, Any]:
    if model.endswith(canary.SUFFIX):
        return message(
            "No canary is on trial",
            "`python -m serving canary` puts a new version beside the live one; docs/releases.md "
            "says how. Any two ensembles can be compared: type their names.",
        )
    return message(
        f"The server has no ensemble `{model}`", "Type the name of one that it has.", "error"
    )
