"""The boxes of several networks in, the detections of all of them together out.

Weighted boxes fusion: Solovyev, Wang, Gabruseva, "Weighted boxes fusion: Ensembling boxes from
different object detection models", Image and Vision Computing 107, 2021 (arXiv 1910.13302). As in
the authors' package ensemble-boxes with its defaults, no network weighs more than another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import postprocessing
from postprocessing import Detections, Settings

# A network's boxes are fused from this score on, whatever a request asks for: else its threshold
# would change the boxes that remain. Below it nothing moves a box that is seen.
LEAST_SCORE = 0.01
# Of one network's boxes that overlap more only the best is fused, whatever its own suppression
# leaves: a poor second box of an object would count as much in the mean of the scores as the best.
MEMBER_IOU = 0.45
FUSION_IOU = "0.55"  # the authors'


def parse_fusion_iou(texts: Mapping[str, str]) -> float:
    """From which IoU on boxes of a class are of one object, where a configuration says so.

    Raises:
        RequestError: it is no number from 0 to 1.
    """
    return postprocessing.parse_iou(texts, "fusion_iou", FUSION_IOU)


def detect(
    members: Sequence[tuple[np.ndarray, np.ndarray]],
    image_size: np.ndarray,
    settings: Settings,
    resize: str,
    voting_iou: float,
    fusion_iou: float,
) -> Detections:
    """The detections of one image.

    Suppressed before, so that a network names an object once (MEMBER_IOU), and again after: two
    fused boxes may overlap more than the request allows.

    Args:
        members: of each network boxes_xyxy float32 [K, 4], 0..1, and scores float32 [K, C]; of one
            alone the detections are those of `postprocessing.detect`.
        image_size, settings, resize, voting_iou: as for that.
        fusion_iou: as for `fuse`.
    """
    if len(members) == 1:
        (alone,) = members
        return postprocessing.detect(*alone, image_size, settings, resize, voting_iou)
    wanted = settings.least_scores(members[0][1].shape[1])
    least = replace(
        settings,
        score_threshold=min(*wanted, LEAST_SCORE),
        iou_threshold=min(settings.iou_threshold, MEMBER_IOU),
        score_thresholds=(),
    )
    found = [postprocessing.find(*member, least, voting_iou) for member in members]
    fused = fuse(found, fusion_iou)
    fused = Detections(*(part[fused.scores > wanted[fused.classes]] for part in fused))
    kept = postprocessing.suppress(*fused, settings)
    kept_only = Detections(*(part[kept] for part in fused))
    return postprocessing.place(kept_only, image_size, settings, resize)


def fuse(members: Sequence[Detections], fusion_iou: float) -> Detections:
    """Weighted boxes fusion, section 3 of the paper.

    Args:
        members: what each network found; boxes 0..1 with an area, in any order.
        fusion_iou: boxes of a class that overlap more are of one object, 0..1.

    Returns:
        A box for each object, best first: the mean of its boxes, weighted by their scores. Its
        score is their mean, times the share of the networks that found it.
    """
    boxes_xyxy, scores, classes = (np.concatenate(parts) for parts in zip(*members, strict=True))
    boxes_xyxy, scores = boxes_xyxy.astype(np.float64), scores.astype(np.float64)
    best_first = np.argsort(-scores, kind="stable")
    objects = []
    for class_id in np.unique(classes):
        own = best_first[classes[best_first] == class_id]
        means_xyxy, totals, counts = gather(boxes_xyxy[own], scores[own], fusion_iou)
        fused = totals / counts * np.minimum(counts, len(members)) / len(members)
        objects.append(Detections(means_xyxy, fused, np.full(len(fused), class_id)))
    if not objects:
        return Detections(boxes_xyxy, scores, classes)
    boxes_xyxy, scores, classes = (np.concatenate(parts) for parts in zip(*objects, strict=True))
    best_first = np.argsort(-scores, kind="stable")
    return Detections(
        boxes_xyxy[best_first].astype(np.float32),
        scores[best_first].astype(np.float32),
        classes[best_first].astype(np.int32),
    )


def gather(
    boxes_xyxy: np.ndarray, scores: np.ndarray, fusion_iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group the boxes of one class by object: each joins the mean that it overlaps most, or begins.

    Args:
        boxes_xyxy: float64 [N, 4], best first.
        scores: float64 [N].
        fusion_iou: as for `fuse`.

    Returns:
        Of M objects float64 [M, 4], the weighted means; [M], the sums of their scores; int [M], how
        many boxes each has.
    """
    means_xyxy, weighted = np.empty_like(boxes_xyxy), np.zeros_like(boxes_xyxy)
    totals, counts = np.zeros(len(scores)), np.zeros(len(scores), int)
    objects = 0
    for box, score in zip(boxes_xyxy, scores, strict=True):
        ious = overlaps(means_xyxy[:objects], box)
        at = int(ious.argmax()) if objects else 0
        if not objects or ious[at] <= fusion_iou:
            at, objects = objects, objects + 1
        weighted[at] += score * box
        totals[at] += score
        counts[at] += 1
        means_xyxy[at] = weighted[at] / totals[at]
    return means_xyxy[:objects], totals[:objects], counts[:objects]


def overlaps(boxes_xyxy: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The intersection over union, [N], of boxes [N, 4] with one, [4]."""
    sides = np.minimum(boxes_xyxy[:, 2:], box[2:]) - np.maximum(boxes_xyxy[:, :2], box[:2])
    sides = np.maximum(sides, 0)
    common = sides[:, 0] * sides[:, 1]
    spans = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    area = (box[2] - box[0]) * (box[3] - box[1])
    return common / (spans[:, 0] * spans[:, 1] + area - common)
