"""How a network sees an image: as it is, flipped, or smaller, with its boxes brought back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from client.errors import InvalidParameter

Flip = Literal["horizontal", "vertical"]
AXES: dict[Flip, int] = {"horizontal": 2, "vertical": 1}  # of [B, H, W, 3]
GREY = 127  # around what is smaller, as around a letterboxed photo
SMALLEST = 0.25


@dataclass(frozen=True)
class View:
    """An image as a network sees it.

    Attributes:
        axis: of [B, H, W, 3], along which it is flipped; None: it is not.
        scale: its share of the input's width and height, in the middle of grey.
    """

    axis: int | None = None
    scale: float = 1.0

    def show(self, images: np.ndarray) -> np.ndarray:
        """Return images as they are seen, uint8 [1, H, W, 3]."""
        if self.axis is not None:
            images = np.ascontiguousarray(np.flip(images, self.axis))
        if self.scale == 1:
            return images
        import cv2  # only here: `import client` needs numpy and tritonclient alone

        height, width = images.shape[1:3]
        top, left, rows, columns = self._place(height, width)
        seen = np.full_like(images, GREY)
        smaller = cv2.resize(images[0], (columns, rows), interpolation=cv2.INTER_AREA)
        seen[0, top : top + rows, left : left + columns] = smaller
        return seen

    def restore(
        self, found: Sequence[np.ndarray], size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes of the image, float32 [K, 4], 0..1, and scores [K, C], of one that was seen.

        Args:
            found: of the network boxes_xyxy, float32 [1, K, 4], 0..1, and scores, [1, K, C].
            size: height and width of the network's input.
        """
        boxes_xyxy, scores = (each[0] for each in found)
        if self.scale != 1:
            top, left, rows, columns = self._place(*size)
            corner = np.array([left / size[1], top / size[0]] * 2, np.float32)
            share = np.array([columns / size[1], rows / size[0]] * 2, np.float32)
            boxes_xyxy = np.clip((boxes_xyxy - corner) / share, 0, 1)  # in the grey: without area
        if self.axis is not None:
            least, most = (0, 2) if self.axis == 2 else (1, 3)
            boxes_xyxy = boxes_xyxy.copy()
            boxes_xyxy[:, [least, most]] = 1 - boxes_xyxy[:, [most, least]]
        return boxes_xyxy, scores

    def _place(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Where a smaller image lies, in whole pixels: top, left, rows and columns."""
        rows, columns = round(height * self.scale), round(width * self.scale)
        return (height - rows) // 2, (width - columns) // 2, rows, columns


def make_views(flips: Sequence[Flip], scales: Sequence[float] = ()) -> list[View]:
    """Return the image as it is, each flip of it, and each scale.

    Raises:
        InvalidParameter: there is no such flip or scale.
    """
    if isinstance(flips, str) or not set(flips) <= AXES.keys():
        raise InvalidParameter(f"flips must be a list of {' and '.join(AXES)}, found {flips!r}")
    if isinstance(scales, str | float) or not all(
        isinstance(each, float) and SMALLEST <= each < 1 for each in scales
    ):
        raise InvalidParameter(
            f"scales must be a list of numbers from {SMALLEST} up to 1, such as [0.8], found "
            f"{scales!r}: larger than its input a network sees nothing, but tiles of a photo"
        )
    flipped = (View(AXES[each]) for each in dict.fromkeys(flips))
    return [View(), *flipped, *(View(scale=each) for each in dict.fromkeys(scales))]
