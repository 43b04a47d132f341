"""Photos in, what was found in them out, as the browser gets it.

| key | meaning |
|---|---|
| sources | paths of the photos, all of them, also of those that have no answer yet |
| photos | the answers so far, in that order |
| colours | per label: "colour", and "ink" to write on it |
| facts | of `Facts.after`, once all are answered |

A photo has its "name" and "source", and either an "error" (`messages.message`), or what
`Result.to_dict` tells, "milliseconds" of the round trip, and the copies "image" and "thumbnail".

The server is asked for all detections above the score FLOOR, and the browser shows those that the
sliders let through. That is exact: of two boxes that overlap, the one with the better score stays,
so a box of a lower score never changes what becomes of a better one, and leaving out low scores
before or after non-maximum suppression is the same; so is a limit on the number of the best. The
IoU threshold is the server's alone: with another one it is asked again.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from client import Detector, Result
from demo import pictures
from demo.facts import Facts
from demo.messages import explained, message

FLOOR = 0.05  # score threshold that the server is asked for
AT_ONCE = 4  # photos of one user under way at the same time
MOST = 64  # photos at once
TICK_SECONDS = 0.5  # between two looks at what is there already


class Found(NamedTuple):
    """A photo's path, what was found in it, and what answered, once that is known.

    result: None where it failed.
    version: as `Service.versions` tells it.
    """

    path: str
    result: Result | None
    version: str = ""


def answers(
    detector: Detector, facts: Facts, paths: list[str], iou: float | None
) -> Iterator[tuple[dict[str, Any], list[Found]]]:
    """Yield what there is to show as the answers come in, and the results that it holds.

    Args:
        detector: connected or not; when its server is away, the message says so.
        facts: of the same server.
        paths: uploaded files.
        iou: of two boxes of one class that overlap more only the better stays, 0..1. None: the
            server's default.
    """
    if len(paths) > MOST:
        yield {"message": _too_many(len(paths))}, []
        return
    before = facts.before() if paths else {}
    photos: list[dict[str, Any]] = []
    found: list[Found] = []
    last = time.monotonic()
    for photo, result in _answered(detector, paths, iou):
        photos.append(photo)
        found.append(Found(photo["source"], result))
        if time.monotonic() > last + TICK_SECONDS:
            last = time.monotonic()
            yield _value(paths, photos, found), list(found)
    answered = next((each.result for each in found if each.result), None)
    told = {"facts": facts.after(before, answered)} if answered else {}
    version = told["facts"]["versions"] if told else ""
    yield _value(paths, photos, found) | told, [each._replace(version=version) for each in found]


def answer(
    detector: Detector, path: str, iou: float | None
) -> tuple[dict[str, Any], Result | None]:
    """What is to be shown of one photo, and the result that it holds; None where it failed."""
    name = Path(path).name
    try:
        photo = pictures.read_photo(path)
        started = time.perf_counter()
        result = detector.detect(photo, score_threshold=FLOOR, iou_threshold=iou)
        milliseconds = 1000 * (time.perf_counter() - started)
        copies = pictures.copies(path, photo)
    except Exception as error:  # whatever it is, the other photos go on
        return {"name": name, "source": path, "error": explained(error, name)}, None
    told = {"name": name, "source": path, "milliseconds": milliseconds}
    return told | result.to_dict() | copies, result


def drawing(found: Sequence[Found], asked: Any) -> dict[str, Any]:
    """A photo with some of its detections drawn, for who was answered for it.

    Args:
        found: what this visitor was answered.
        asked: by a browser, and so anything at all. Wanted: {"photo", "detections"}, places in
            `found` and in its detections.
    Returns:
        "picture", a file for the browser; or "message".
    """
    try:
        path, result, _ = found[asked["photo"]]
        detections = [result.detections[place] for place in set(asked["detections"])]
    except (AttributeError, IndexError, KeyError, TypeError):
        return {"message": _no_longer_on_show()}
    try:
        return {"picture": pictures.drawn(path, detections)}
    except Exception as error:
        return {"message": explained(error, Path(path).name)}


def filtered(result: Result, score: float, most: int) -> Result:
    """The detections that the sliders let through, as the browser finds them out for itself."""
    least = np.float32(score)  # what the server compares with
    return replace(result, detections=tuple(d for d in result.detections if d.score > least)[:most])


def _value(paths: list[str], photos: list[dict[str, Any]], found: list[Found]) -> dict[str, Any]:
    results = [each.result for each in found if each.result]
    return {"sources": paths, "photos": list(photos), "colours": pictures.colours(results)}


def _answered(detector: Detector, paths: list[str], iou: float | None) -> Iterator[Any]:
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="photos")
    try:
        yield from pool.map(partial(answer, detector, iou=iou), paths)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _no_longer_on_show() -> dict[str, Any]:
    return message("This photo is no longer here", "Drop it again, then save the picture.", "error")


def _too_many(count: int) -> dict[str, Any]:
    return message(
        f"{count} photos are too many for this page",
        f"It takes {MOST} at a time. For whole folders there is `python -m client detect FOLDER`.",
        "error",
    )
