"""What is measured of the photos that come in: their sizes, and what the network sees of them.

This is the one source of the histograms' edges. `training export` measures a validation set with
it, for the reference that `serving drift` compares with.
"""

import cv2
import numpy as np
from image_header import REASONS, Reason
from metrics import Counter, Histogram, Measured

SIDES = (100, 160, 240, 320, 400, 480, 560, 640, 720, 800, 960, 1080, 1280, 1600, 1920, 2560, 4096)
STEPS = (1, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2)  # of each power of ten: E12
EDGES: dict[str, tuple[float, ...]] = {
    "image_width_pixels": SIDES,
    "image_height_pixels": SIDES,
    "image_bytes": tuple(round(each * 10**power) for power in range(3, 8) for each in STEPS),
    "image_brightness": tuple(range(4, 255, 4)),
    "image_sharpness": tuple(round(each * 10**power, 1) for power in range(5) for each in STEPS),
}
MEANINGS = {
    "image_width_pixels": "Width of upright photos, pixels",
    "image_height_pixels": "Height of upright photos, pixels",
    "image_bytes": "Size of photos as files, bytes",
    "image_brightness": "Mean luma of the middle of what the network sees of a photo, 0 to 255",
    "image_sharpness": "Variance of the Laplacian of that luma",
}


class ImageStatistics:
    """Counts photos by their properties, and those that were refused by the reason."""

    def __init__(self) -> None:
        self.histograms = {name: Histogram(edges) for name, edges in EDGES.items()}
        self.rejected = {reason: Counter() for reason in REASONS}

    def add(self, files: np.ndarray, images: np.ndarray, sizes: np.ndarray) -> None:
        """Count the photos of a request.

        Args:
            files: bytes [B], as they came.
            images: uint8 RGB [B, H, W, 3], what the network sees.
            sizes: [B, 2], height and width of the upright originals, pixels.
        """
        for file, image, (height, width) in zip(files, images, sizes.tolist(), strict=True):
            values = (width, height, len(file), *measure_look(image))
            for histogram, value in zip(self.histograms.values(), values, strict=True):
                histogram.add(value)

    def reject(self, reason: Reason) -> None:
        """Count a photo that was refused."""
        self.rejected[reason].add()

    def measured(self) -> list[Measured]:
        """All of it, for /metrics."""
        histograms = [
            Measured(f"ssd_{name}", MEANINGS[name], {}, histogram)
            for name, histogram in self.histograms.items()
        ]
        return histograms + [
            Measured("ssd_rejected_images", "Photos that were refused", {"reason": reason}, counter)
            for reason, counter in self.rejected.items()
        ]


def measure_look(image: np.ndarray) -> tuple[float, float]:
    """Brightness, 0 to 255, and sharpness of an image's middle, uint8 RGB [H, W, 3].

    The middle is half of each side: a quarter of the pixels, and of the time. Sharpness is the
    variance of the Laplacian: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
    ICPR 2000.
    """
    top, left = image.shape[0] // 4, image.shape[1] // 4
    middle = image[top : image.shape[0] - top, left : image.shape[1] - left]
    luma = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    # cv2.meanStdDev takes as long as all else together.
    variance = cv2.norm(edges, cv2.NORM_L2SQR) / edges.size - cv2.mean(edges)[0] ** 2
    return cv2.mean(luma)[0], max(variance, 0.0)
