"""How far the detections of two models agree on the same photos."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from client import Box, Detection

SAME_OBJECT = 0.5  # IoU from which two boxes of one label are the same object


def measure_agreement(
    pairs: Iterable[tuple[Sequence[Detection], Sequence[Detection]]],
) -> tuple[float | None, float]:
    """`Comparison.agreement` and `score_change` of detections of the same photos."""
    boxes, changes, photos = 0, [], 0
    for first, second in pairs:
        photos += 1
        boxes += len(first) + len(second)
        changes += [second[b].score - first[a].score for a, b in match_detections(first, second)]
    share = 2 * len(changes) / boxes if boxes else 1.0
    return (share if photos else None), (fmean(changes) if changes else 0.0)


def match_detections(
    first: Sequence[Detection], second: Sequence[Detection]
) -> list[tuple[int, int]]:
    """Places in both of the boxes that are the same object, the best IoU first, one to one."""
    overlaps = [
        (overlap, a, b)
        for a, one in enumerate(first)
        for b, other in enumerate(second)
        if one.label == other.label and (overlap := compute_iou(one.box, other.box)) >= SAME_OBJECT
    ]
    found: list[tuple[int, int]] = []
    free = (set(range(len(first))), set(range(len(second))))
    for _, a, b in sorted(overlaps, key=lambda each: -each[0]):
        if a in free[0] and b in free[1]:
            found.append((a, b))
            free[0].remove(a)
            free[1].remove(b)
    return found


def compute_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1; 0 where neither has an area."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    common = max(width, 0.0) * max(height, 0.0)
    areas = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other))
    return common / (areas - common) if areas > common else 0.0
