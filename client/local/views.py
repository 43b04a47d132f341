"""How a network sees an image: as it is, or flipped, with its boxes flipped back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from client.errors import InvalidParameter

Flip = Literal["horizontal", "vertical"]
AXES: dict[Flip, int] = {"horizontal": 2, "vertical": 1}  # of [B, H, W, 3]


@dataclass(frozen=True)
class View:
    """An image, flipped along an axis of [B, H, W, 3]; None: as it is."""

    axis: int | None = None

    def flip(self, images: np.ndarray) -> np.ndarray:
        """Return images as they are seen, uint8 [1, H, W, 3]."""
        return images if self.axis is None else np.ascontiguousarray(np.flip(images, self.axis))

    def restore(self, boxes_xyxy: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes of the image, float32 [K, 4], 0..1, and scores [K, C], of one that was seen.

        Args:
            boxes_xyxy: float32 [1, K, 4], 0..1.
            scores: float32 [1, K, C].
        """
        boxes_xyxy = boxes_xyxy[0]
        if self.axis is not None:
            least, most = (0, 2) if self.axis == 2 else (1, 3)
            boxes_xyxy = boxes_xyxy.copy()
            boxes_xyxy[:, [least, most]] = 1 - boxes_xyxy[:, [most, least]]
        return boxes_xyxy, scores[0]


def make_views(flips: Sequence[Flip]) -> list[View]:
    """Return the image as it is and each flip of it.

    Raises:
        InvalidParameter: there is no such flip.
    """
    if isinstance(flips, str) or not set(flips) <= AXES.keys():
        raise InvalidParameter(f"flips must be a list of {' and '.join(AXES)}, found {flips!r}")
    return [View(), *(View(AXES[each]) for each in dict.fromkeys(flips))]
