"""Fits the boxes of an annotation into its image, and compares the size that it claims."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np

from training.data.annotations import Content, Object
from training.data.decoding import ImageInfo
from training.data.problems import Kind, Problem

LEAST_SIDE = 1.0  # pixels; a box below that shows nothing to learn
RESIZED = 0.01  # a claimed size that is further off is no rounding
SHARES_FROM = 16  # pixels a side of an image from which boxes within 0..1 are taken for shares
TOLERANCE = 1.0  # pixels outside the image that are a writer's rounding, clipped without a word
Resized = Literal["unknown", "yes", "no"]


def _differs(claimed: tuple[float, float] | None, info: ImageInfo) -> bool:
    """Whether an image may have been resized: by a size that is one, and no mere rounding."""
    real = (info.width, info.height)
    if claimed is None or min(claimed) <= 0 or claimed == real[::-1]:
        return False
    return any(abs(c - r) > max(TOLERANCE, RESIZED * r) for c, r in zip(claimed, real, strict=True))


def scale_boxes(content: Content, info: ImageInfo) -> Content:
    """What an annotation says of an image that was resized since."""
    if content.size is None or not _differs(content.size, info):
        return content
    real = (info.width, info.height)
    scale = np.tile(np.divide(real, content.size), 2)
    objects = [
        dataclasses.replace(item, box_xyxy=tuple((scale * item.box_xyxy).tolist()))
        for item in content.objects
    ]
    return dataclasses.replace(content, size=real, objects=tuple(objects))


def compare_size(content: Content, file: str, info: ImageInfo, resized: Resized) -> list[Problem]:
    """The real size counts where all boxes fit into it; else nobody knows what they meant.

    Nor does anybody where the image may have been resized: boxes fit into a larger one, too.
    """
    claimed, real = content.size, (info.width, info.height)
    if claimed == real or is_fatal(content.problems):
        return []
    found = f"{claimed[0]:g}x{claimed[1]:g}" if claimed else "nothing readable"
    message = f"the size it says is {found}, the upright image has {real[0]}x{real[1]}"
    if claimed == real[::-1] and info.orientation >= 5:
        message += "; its boxes lie in the picture before EXIF rotation"
        return [Problem(file, None, "size disagrees", message, "image")]
    if resized == "unknown" and _differs(claimed, info):
        message += "; `--resized yes` scales the boxes to it, `--resized no` takes them as they are"
        return [Problem(file, None, "size disagrees", message, "image")]
    if claimed and not all(_overhang(item, info) <= TOLERANCE for item in content.objects):
        message += "; not all boxes fit into that"
        return [Problem(file, None, "size disagrees", message, "image")]
    return [Problem(file, None, "size disagrees", f"{message}, which counts", "nothing")]


def _overhang(item: Object, info: ImageInfo) -> float:
    """By how many pixels a box reaches outside the image, on its worst side."""
    x1, y1, x2, y2 = item.box_xyxy
    return max(-x1, -y1, x2 - info.width, y2 - info.height, 0.0)


def fit_boxes(
    objects: Iterable[Object], file: str, info: ImageInfo
) -> tuple[list[Object], list[Problem]]:
    """Clip boxes to the image, and say of which nothing remains or nothing can be seen."""
    kept, problems = [], []
    for item in objects:
        clipped = _clip(item, info)
        where = f"{item.text} in an image of {info.width}x{info.height}"
        if kind := _unusable(clipped, info):
            problems.append(Problem(file, item.index, kind, where, "image"))
            continue
        if _overhang(item, info) > TOLERANCE:
            problems.append(Problem(file, item.index, "clipped", where, "nothing"))
        kept.append(clipped)
    return kept, problems


def _unusable(clipped: Object, info: ImageInfo) -> Kind | None:
    """What is wrong with what remains of a box in its image, if that is too little."""
    x1, y1, x2, y2 = np.asarray(clipped.box_xyxy, np.float32)  # as it is stored
    if x2 <= x1 or y2 <= y1:
        return "outside the image"
    if min(x2 - x1, y2 - y1) >= LEAST_SIDE:
        return None
    shares = max(x2, y2) <= 1 and min(info.width, info.height) >= SHARES_FROM
    return "shares, not pixels" if shares else "under a pixel"


def _clip(item: Object, info: ImageInfo) -> Object:
    edges = np.clip(item.box_xyxy, 0, [info.width, info.height] * 2).tolist()
    return dataclasses.replace(item, box_xyxy=tuple(edges))


def is_fatal(problems: Iterable[Problem]) -> bool:
    return any(problem.fatal_for == "image" for problem in problems)
