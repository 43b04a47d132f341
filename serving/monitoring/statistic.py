"""What is measured of images and detections: the histograms' names, without `ssd_`."""

from typing import NamedTuple

BRIGHTNESS = "image_brightness"
IMAGE_STATISTICS = (
    "image_width_pixels",
    "image_height_pixels",
    "image_bytes",
    BRIGHTNESS,
    "image_sharpness",
)
PER_IMAGE = "detections_per_image"
SCORE = "detection_score"
DETECTION_STATISTICS = (PER_IMAGE, SCORE)  # by class


class Statistic(NamedTuple):
    """One of the above, and of which class."""

    name: str
    label: str = ""

    def __str__(self) -> str:
        """For people: brightness, score of RBC, RBC per image."""
        if self.name == PER_IMAGE:
            return f"{self.label} per image"
        words = self.name.split("_")[1]
        return f"{words} of {self.label}" if self.label else words


IMAGES = Statistic(BRIGHTNESS)  # every image has one, so that its total is how many there were
