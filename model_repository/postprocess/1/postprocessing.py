"""The network's boxes in, detections out.

In, for one image: boxes_xyxy float32 [K, 4], 0..1 of the network's input, a square that the photo
was stretched to or letterboxed on; scores float32 [K, C], a probability per class, without
background; the upright original's height and width, pixels.
Out: the N best detections that remain after non-maximum suppression per class, best first:
boxes_xyxy float32 [N, 4] in pixels of the original, 0 <= x1 < x2 <= width; scores float32 [N];
classes int32 [N], 0-based.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

RESIZES = ("stretch", "letterbox")


class RequestError(ValueError):
    """A request that cannot be answered. The message is for the person who sent it."""


@dataclass(frozen=True)
class Settings:
    """What a request may set."""

    score_threshold: float  # 0..1, detections score above it
    iou_threshold: float  # 0..1, of two boxes of a class that overlap more, the better one stays
    max_detections: int  # per image
    score_thresholds: tuple[float, ...] = ()  # by class, 0..1; none: score_threshold for all

    def least_scores(self, classes: int) -> np.ndarray:
        """What the detections of each class score above, float32 [C].

        Raises:
            RequestError: there are thresholds by class, and not so many.
        """
        by_class = self.score_thresholds or (self.score_threshold,) * classes
        if len(by_class) != classes:
            raise RequestError(
                f"score_thresholds has {len(by_class)} numbers, one for each of the {classes} "
                "classes expected"
            )
        return np.array(by_class, np.float32)


class Detections(NamedTuple):
    """The detections of one image, best first."""

    boxes_xyxy: np.ndarray  # float32 [N, 4], pixels of the upright original
    scores: np.ndarray  # float32 [N]
    classes: np.ndarray  # int32 [N]


class SettingsReader:
    """Turns the parameters of a request into settings.

    Args:
        defaults: for what a request leaves out.
        rows: how many detections fit into the output (M).
        ignored: regular expression; parameters whose whole name matches are not looked at.

    Raises:
        RequestError: a default out of range.
    """

    def __init__(self, defaults: Settings, rows: int, ignored: str) -> None:
        self.limits = {"score_threshold": 1, "iou_threshold": 1, "max_detections": rows}
        self.ignored = re.compile(ignored)
        for threshold in defaults.score_thresholds:
            check_number("score_thresholds", threshold, 1)
        self.defaults = self.checked({x: getattr(defaults, x) for x in self.limits}, defaults)

    def read(self, parameters: Mapping[str, Any]) -> Settings:
        """Check what a request sets and fill in the rest.

        Raises:
            RequestError: an unknown name, or a value of the wrong type or out of range.
        """
        unknown = parameters.keys() - self.limits.keys()
        wrong = sorted(name for name in unknown if not self.ignored.fullmatch(name))
        if wrong:
            known_names = ", ".join(self.limits)
            raise RequestError(f"unknown parameter {wrong[0]!r:.40}, known are {known_names}")
        # In this order, so that of several wrong ones the same is named however they came.
        known = {name: parameters[name] for name in self.limits if name in parameters}
        if not known:
            return self.defaults
        settings = self.checked(known, self.defaults)
        return replace(settings, score_thresholds=()) if "score_threshold" in known else settings

    def checked(self, values: Mapping[str, Any], defaults: Settings) -> Settings:
        for name, value in values.items():
            check_number(name, value, self.limits[name])
        return replace(defaults, **values)


def check_number(name: str, value: Any, most: int) -> None:
    """Raise RequestError unless the value suits the setting; a bool is no number here."""
    whole = name == "max_detections"
    right_type = type(value) is int or (type(value) is float and not whole)
    least = 1 if whole else 0
    if not right_type or not least <= value <= most:  # NaN is in no range
        kind = "an integer" if whole else "a number"
        raise RequestError(f"{name} is {value!r:.40}, {kind} from {least} to {most} expected")


def parse_settings(texts: Mapping[str, str]) -> Settings:
    """Settings from text, as config.pbtxt has them; one of before has no score_thresholds.

    Raises:
        RequestError: score_thresholds is no list.
    """
    given = float(texts["score_threshold"]), float(texts["iou_threshold"])
    return Settings(*given, int(texts["max_detections"]), parse_thresholds(texts))


def parse_thresholds(texts: Mapping[str, str]) -> tuple[float, ...]:
    text = texts.get("score_thresholds", "[]")
    try:
        return tuple(json.loads(text))
    except (ValueError, TypeError):
        raise RequestError(
            f"score_thresholds is {text!r:.40}, such as [0.4, 0.5] expected"
        ) from None


def parse_resize(texts: Mapping[str, str]) -> str:
    """How preprocess makes the network's input of a photo; a configuration of before says nothing.

    Raises:
        RequestError: it is none of RESIZES.
    """
    resize = texts.get("resize", RESIZES[0])
    if resize not in RESIZES:
        raise RequestError(f"resize is {resize!r:.40}, {' or '.join(RESIZES)} expected")
    return resize


def parse_voting_iou(texts: Mapping[str, str]) -> float:
    """From which IoU on boxes of a class vote; a configuration of before says nothing: 0, none do.

    Raises:
        RequestError: it is no number from 0 to 1.
    """
    return parse_iou(texts, "voting_iou", "0")


def parse_iou(texts: Mapping[str, str], name: str, otherwise: str) -> float:
    """An IoU from a configuration, which may say nothing. Raises RequestError as above."""
    text = texts.get(name, otherwise)
    try:
        iou = float(text)
    except ValueError:
        iou = -1.0
    if not 0 <= iou <= 1:
        raise RequestError(f"{name} is {text!r:.40}, a number from 0 to 1 expected")
    return iou


def check_sizes(sizes: np.ndarray) -> None:
    """Raise RequestError unless each image has a height and a width.

    Args:
        sizes: [B, 2], height, width.
    """
    wrong = np.flatnonzero((sizes < 1).any(axis=1))
    if len(wrong):
        height, width = sizes[wrong[0]]
        raise RequestError(
            f"image {wrong[0]}: height {height}, width {width} in image_size, "
            f"1 pixel or more expected"
        )


def detect(
    boxes_xyxy: np.ndarray,
    scores: np.ndarray,
    image_size: np.ndarray,
    settings: Settings,
    resize: str = "stretch",
    voting_iou: float = 0.0,
) -> Detections:
    """The detections of one image.

    Args:
        boxes_xyxy: float32 [K, 4], 0..1; what reaches beyond the photo is clipped, boxes without
            an area and boxes that are not numbers are dropped.
        scores: float32 [K, C].
        image_size: height, width of the upright original, pixels.
        settings: the request's.
        resize: one of RESIZES, how preprocess made the input of the photo.
        voting_iou: as for `vote`; 0: boxes stay as the network gave them.
    """
    found = find(boxes_xyxy, scores, settings, voting_iou)
    return place(found, image_size, settings, resize)


def find(
    boxes_xyxy: np.ndarray, scores: np.ndarray, settings: Settings, voting_iou: float
) -> Detections:
    """What non-maximum suppression leaves of one network's boxes, 0..1 of its input.

    Arguments as for `detect`; max_detections is not looked at.
    """
    network = boxes_xyxy, scores
    good = np.flatnonzero(scores > settings.least_scores(scores.shape[1]))
    rows, classes = np.divmod(good, scores.shape[1])  # [candidates]
    boxes_xyxy, scores = np.clip(boxes_xyxy[rows], 0, 1), scores[rows, classes]
    sound = (boxes_xyxy[:, :2] < boxes_xyxy[:, 2:]).all(axis=1)
    boxes_xyxy, scores, classes = boxes_xyxy[sound], scores[sound], classes[sound]
    kept = suppress(boxes_xyxy, scores, classes, settings)
    boxes_xyxy = boxes_xyxy[kept]
    if voting_iou and len(kept):
        boxes_xyxy = vote(boxes_xyxy, classes[kept], *network, voting_iou)
    return Detections(boxes_xyxy, scores[kept], classes[kept].astype(np.int32))


def place(found: Detections, image_size: np.ndarray, settings: Settings, resize: str) -> Detections:
    """The best of what was found in 0..1, in pixels of the upright original.

    Arguments as for `detect`.
    """
    boxes_xyxy = to_pixels(found.boxes_xyxy, image_size, resize)
    seen = (boxes_xyxy[:, :2] < boxes_xyxy[:, 2:]).all(axis=1)  # not what lies in the grey alone
    placed = found._replace(boxes_xyxy=boxes_xyxy)
    return Detections(*(part[seen][: settings.max_detections] for part in placed))


def vote(
    kept_xyxy: np.ndarray,
    classes: np.ndarray,
    boxes_xyxy: np.ndarray,
    scores: np.ndarray,
    voting_iou: float,
) -> np.ndarray:
    """Box voting (arXiv 1505.01749, section 4.3): boxes around one object lie more surely together.

    Args:
        kept_xyxy: float32 [N, 4], 0..1, what non-maximum suppression kept.
        classes: int [N].
        boxes_xyxy: float32 [K, 4], all that the network gave, whatever their scores, so that what
            a request's threshold leaves out changes no box.
        scores: float32 [K, C].
        voting_iou: above 0; a box votes that overlaps a kept one by this at least.

    Returns:
        float32 [N, 4]: of each the mean of the boxes that vote, weighted by their scores of its
        class.
    """
    boxes_xyxy = np.clip(boxes_xyxy, 0, 1)
    sound = (boxes_xyxy[:, :2] < boxes_xyxy[:, 2:]).all(axis=1)
    boxes_xyxy, scores = boxes_xyxy[sound], np.nan_to_num(scores[sound])
    # [N, K]; one side at a time: reductions over an axis of two are slow in numpy.
    sides = [
        np.minimum(kept_xyxy[:, None, edge + 2], boxes_xyxy[:, edge + 2])
        - np.maximum(kept_xyxy[:, None, edge], boxes_xyxy[:, edge])
        for edge in (0, 1)
    ]
    common = np.maximum(sides[0], 0) * np.maximum(sides[1], 0)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=-1) for each in (kept_xyxy, boxes_xyxy)]
    near = common >= voting_iou * (areas[0][:, None] + areas[1][None] - common)
    weights = np.ascontiguousarray(np.where(near, scores[:, classes].T, 0))
    total = weights.sum(axis=1, keepdims=True)
    # Not a product of matrices, whose rounding depends on how many boxes are kept.
    sums = np.einsum("nk,kc->nc", weights, boxes_xyxy)
    means = sums / np.where(total > 0, total, 1)
    return np.where(total > 0, means, kept_xyxy).astype(np.float32)


def to_pixels(boxes_xyxy: np.ndarray, image_size: np.ndarray, resize: str) -> np.ndarray:
    """Boxes from 0..1 of the network's square input to pixels of the upright original, [N, 4].

    Args:
        boxes_xyxy: float32 [N, 4].
        image_size: height, width of the upright original, pixels.
        resize: one of RESIZES.
    """
    extent = np.tile(np.asarray(image_size, np.float32)[::-1], 2)  # width, height, width, height
    if resize == "stretch":
        return boxes_xyxy * extent
    side = extent.max()  # the canvas is a square as wide or as high as the photo, around it
    return np.clip(boxes_xyxy * side - (side - extent) / 2, 0, extent)


def suppress(
    boxes_xyxy: np.ndarray, scores: np.ndarray, classes: np.ndarray, settings: Settings
) -> np.ndarray:
    """Indices of the boxes that survive non-maximum suppression, best first; ties keep their order.

    Boxes are 0..1: OpenCV keeps classes apart by moving each one to the right of all others, which
    holds only where no coordinate is negative. Its top_k, a cut before suppression, stays off: it
    would lose detections wherever the best boxes crowd together, and K is small already.
    """
    boxes_xywh = np.hstack([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]])
    kept = cv2.dnn.NMSBoxesBatched(
        boxes_xywh.tolist(), scores.tolist(), classes.tolist(), 0.0, settings.iou_threshold
    )
    return np.asarray(kept, int)
