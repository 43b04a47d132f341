"""What is measured of detections: how many of each class, how many an image, and their scores.

This is the one source of the histograms' edges. `training export` measures a validation set with
it, for the reference that `serving drift` compares with.
"""

from collections.abc import Sequence

import numpy as np
from metrics import Counter, Histogram, Measured
from postprocessing import Detections

# In steps of 0.05 to 0.5, which is served as the threshold, and of 0.025 from there on.
SCORES = tuple(step / 40 for step in (*range(2, 20, 2), *range(20, 40)))
COUNTS = (*range(11), 12, 14, 16, 18, 20, 25, 30, 35, 40, 50, 60, 75)
MOST_LABELS = 100  # of a longer list, which would be 60 series a class, the rest counts as one
OTHERS = "(others)"
UNMEASURED = "Images of requests with settings of their own, whose detections are not measured"
REJECTED = "Photos that were refused"  # as in preprocess: one family of both models
PER_IMAGE = "Detections in an image"


class DetectionStatistics:
    """Counts the detections of images by class.

    Args:
        labels: the class names; line i is class i.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        long = len(labels) > MOST_LABELS
        self.labels = [*labels[: MOST_LABELS - 1], OTHERS] if long else list(labels)
        self.detections = [Counter() for _ in self.labels]
        self.scores = [Histogram(SCORES) for _ in self.labels]
        self.per_image = [Histogram(COUNTS) for _ in self.labels]
        self.unmeasured = Counter()
        self.rejected = Counter()

    def add(self, images: Sequence[Detections]) -> None:
        """Count what was found on some images."""
        for found in images:
            counts = [0] * len(self.labels)
            groups = np.minimum(found.classes, len(self.labels) - 1).tolist()
            for group, score in zip(groups, found.scores.tolist(), strict=True):
                counts[group] += 1
                self.scores[group].add(score)
            for group, count in enumerate(counts):
                self.detections[group].add(count)
                self.per_image[group].add(count)

    def pass_over(self, images: Sequence[Detections]) -> None:
        """Count some images whose detections are not to be counted."""
        self.unmeasured.add(len(images))

    def measured(self) -> list[Measured]:
        """All of it, for /metrics."""
        found = [
            Measured("ssd_unmeasured_images", UNMEASURED, {}, self.unmeasured),
            Measured("ssd_rejected_images", REJECTED, {"reason": "parameters"}, self.rejected),
        ]
        for index, label in enumerate(self.labels):
            by = {"label": label}
            found += [
                Measured("ssd_detections", "Detections", by, self.detections[index]),
                Measured("ssd_detection_score", "Scores of detections", by, self.scores[index]),
                Measured("ssd_detections_per_image", PER_IMAGE, by, self.per_image[index]),
            ]
        return found
