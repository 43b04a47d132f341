"""Average precision of small, medium and large objects.

COCO's sizes: small below 32x32 pixels, large from 96x96 on (https://cocodataset.org/#detection-eval,
"Metrics"). A network sees photos at the size of its input, so what is small there is told as well.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from training.evaluation.score import Detected, Truth, match_objects
from training.network.presets import Resize

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
Image = TypeVar("Image", Truth, Detected)


@dataclass(frozen=True)
class OfSize:
    """Objects of one size: how many there are to find, and mAP@0.5 and mAP@[.5:.95], 0 to 1."""

    objects: int
    map50: float
    map: float


def score_sizes(
    truth: list[Truth], detected: list[Detected], labels: tuple[str, ...]
) -> dict[str, OfSize]:
    """COCO's AP_small, AP_medium and AP_large, over classes; none of a size without objects.

    A detection that finds no object counts where its own box has that size.
    """
    evaluator = match_objects(truth, detected, labels, SIZES)
    precision = evaluator.eval["precision"][..., -1]  # [IoU, recall, class, size]
    precision = np.where(precision < 0, np.nan, precision)
    found = {}
    for place, name in enumerate(SIZES):
        if objects := _count_objects(truth, *SIZES[name]):
            of_size = precision[..., place]
            present = ~np.isnan(of_size).all(axis=(0, 1))
            found[name] = OfSize(
                objects, float(of_size[0][:, present].mean()), float(of_size[..., present].mean())
            )
    return found


def scale_to_input(
    truth: list[Truth], images: Iterable[Image], side: int, resize: Resize
) -> list[Image]:
    """The same boxes in pixels of a network's input, side x side; IoUs stay what they are."""
    scales = {image.image_id: _scale(image, side, resize) for image in truth}
    return [
        replace(image, boxes_xyxy=image.boxes_xyxy * np.tile(scales[image.image_id], 2))
        for image in images
    ]


def _scale(image: Truth, side: int, resize: Resize) -> np.ndarray:
    scale = np.array([side / image.width, side / image.height])
    return np.full(2, scale.min()) if resize == "letterbox" else scale


def _count_objects(truth: list[Truth], low: float, high: float) -> int:
    """As pycocotools does: both ends count."""
    count = 0
    for image in truth:
        sides = image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]
        areas = sides.prod(axis=1)[~image.difficult.astype(bool)]
        count += int(((areas >= low) & (areas <= high)).sum())
    return count


def sizes_table(sizes: dict[str, OfSize], where: str, names: tuple[str, str]) -> str:
    """A line for each size; names: `Metrics.names`."""
    first, second = (len(name) for name in names)
    lines = [f"{where:24}  objects  {'  '.join(names)}"]
    for name, each in sizes.items():
        low, high = (int(end**0.5) for end in SIZES[name])
        ends = {"small": f"below {high}x{high}", "large": f"from {low}x{low} on"}
        label = f"{name}, {ends.get(name, f'{low}x{low} to {high}x{high}')}"
        lines.append(
            f"{label:24}  {each.objects:7}  {each.map50:{first}.3f}  {each.map:{second}.3f}"
        )
    return "\n".join(lines)
