"""What a detector answers: boxes in pixels of the upright original, best first."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Box:
    """Corners in pixels of the upright original: 0 <= x1 <= x2 <= width, y likewise."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Detection:
    """One object: its class by name and by 0-based number, its score in 0..1, its box."""

    label: str
    class_id: int
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Result:
    """The detections of one image, best score first, possibly none.

    `width` and `height` are the image's, upright (EXIF orientation applied), in pixels. `model` is
    the ensemble that answered, the stable one or its canary, and `server` the address that it was
    asked at; results that differ in nothing else are equal.
    """

    detections: tuple[Detection, ...]
    width: int
    height: int
    model: str = field(default="", compare=False)
    server: str = field(default="", compare=False)

    def counts(self) -> dict[str, int]:
        """Return how many objects of each label there are, the most frequent label first."""
        return dict(Counter(detection.label for detection in self.detections).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return numbers, strings, lists and dicts only, ready for `json.dumps`."""
        return {
            "width": self.width,
            "height": self.height,
            "counts": self.counts(),
            "detections": [asdict(detection) for detection in self.detections],
            "model": self.model,
            "server": self.server,
        }
