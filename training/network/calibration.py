"""Makes scores probabilities: their log odds, divided by a temperature and shifted.

Temperature scaling is Guo et al., "On Calibration of Modern Neural Networks" (2017, section 4.2).
A temperature alone leaves 0.5 where it is. A detector's 0.5 is rarely where half of the detections
are right, so the shift is needed: Platt scaling, which for detectors is what Kuzucu et al., "On
Calibration of Object Detectors" (2024, arXiv 2405.20459) recommend in place of a temperature.

Greater scores stay greater, so neither the order of detections nor mAP changes, up to what falls
below the least score that is looked at.
"""

import math
from typing import Any, NamedTuple, TypeVar

Scores = TypeVar("Scores", bound=Any)  # of numpy or TensorFlow


class Calibration(NamedTuple):
    """A temperature above 0 and a shift; without arguments it changes nothing."""

    temperature: float = 1.0
    shift: float = 0.0

    def calibrate(self, scores: Scores) -> Scores:
        """Scores of any shape, 0 to 1: sigmoid(log odds / temperature + shift)."""
        odds = scores ** (1 / self.temperature) * math.exp(self.shift)
        return odds / (odds + (1 - scores) ** (1 / self.temperature))


NONE = Calibration()
