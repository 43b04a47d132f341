"""Whether a score is the probability that its detection is right, and what would make it so.

The expected calibration error of a detector: Küppers et al., "Multivariate Confidence Calibration
for Object Detection" (2020, arXiv 2004.13546): of detections with like scores the share that is
right, with an object found at an IoU of 0.5, beside their mean score. Low scores are left out, for
there are so many of them, nearly all false, that they would decide the figure.
"""

from dataclasses import dataclass

import numpy as np

from training.evaluation.outcomes import Judged
from training.network.calibration import Calibration

LEAST_SCORE = 0.3  # of the detections that the error is told of
BINS = 10  # of scores from 0 to 1
FEWEST = 10  # right detections, and false ones, below which nothing is fitted


@dataclass(frozen=True)
class Reliability:
    """How far scores are from probabilities, and what brings them nearer.

    bins: for each of BINS the number of detections, their mean score and the share that is right,
        [BINS, 3]; not a number where there are none.
    error: the expected calibration error, 0 to 1.
    calibration: fitted on all detections.
    calibrated: the same as `bins`, of calibrated scores; those of one half of the photos by what
        was fitted on the other half, so that nothing is told of photos that it was fitted on.
    calibrated_error: theirs.
    """

    bins: np.ndarray
    error: float
    calibration: Calibration
    calibrated: np.ndarray
    calibrated_error: float

    def __str__(self) -> str:
        temperature, shift = self.calibration
        if not self.is_told:
            return f"no score reaches {LEAST_SCORE:g}: the calibration error is not told"
        return (
            f"expected calibration error {self.error:.3f} (scores from {LEAST_SCORE:g} on), "
            f"{self.calibrated_error:.3f} with a temperature of {temperature:.2f} and a shift of "
            f"{shift:.2f} (export --calibrated)"
        )

    @property
    def is_told(self) -> bool:
        """Whether any detection has a score that the error is told of."""
        return bool(self.bins[:, 0].any())

    def to_dict(self) -> dict[str, float]:
        """For reports and the card."""
        return {
            "least_score": LEAST_SCORE,
            "expected_calibration_error": self.error,
            "after_calibration": self.calibrated_error,
            **self.calibration._asdict(),
        }


def measure_reliability(judged: Judged) -> Reliability | None:
    """The reliability of a split's detections; None where too few are right or false to tell."""
    scores, even = judged.scores.astype(float), judged.photos % 2 == 0
    whole, of_even, of_odd = (
        fit_calibration(scores[part], judged.right[part]) for part in (slice(None), even, ~even)
    )
    if whole is None or of_even is None or of_odd is None:
        return None
    others = np.where(even, of_odd.calibrate(scores), of_even.calibrate(scores))
    told = scores >= LEAST_SCORE
    before, after = (fill_bins(x[told], judged.right[told]) for x in (scores, others))
    return Reliability(before, expected_error(before), whole, after, expected_error(after))


def fill_bins(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`Reliability.bins` of scores [N] and whether they are right, bool [N]."""
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    counts = np.bincount(places, minlength=BINS).astype(float)
    sums = [np.bincount(places, values, BINS) for values in (scores, right)]
    with np.errstate(invalid="ignore"):
        return np.stack([counts, *(values / counts for values in sums)], axis=1)


def expected_error(bins: np.ndarray) -> float:
    """The mean distance of score and share, weighted by how many detections a bin has."""
    counts, scores, shares = bins[bins[:, 0] > 0].T
    return float(np.average(np.abs(scores - shares), weights=counts)) if len(counts) else 0.0


def fit_calibration(scores: np.ndarray, right: np.ndarray) -> Calibration | None:
    """The calibration with the least negative log likelihood, by Newton's method.

    With Platt's targets in place of 0 and 1 ("Probabilistic Outputs for Support Vector Machines",
    1999, section 2.2), which keep it finite where a threshold parts right from false.

    Args:
        scores: [N], 0 to 1.
        right: bool [N].

    Returns:
        None of too few detections, or where greater scores are not more often right.
    """
    hits, misses = int(right.sum()), int((~right).sum())
    if min(hits, misses) < FEWEST:
        return None
    targets = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))
    scores = np.clip(scores.astype(float), 1e-7, 1 - 1e-7)
    inputs = np.stack([np.log(scores / (1 - scores)), np.ones(len(scores))])  # [2, N]
    weights, loss = np.array([1.0, 0.0]), np.inf
    while (now := _log_loss(weights, inputs, targets)) < loss - 1e-9 * len(scores):
        loss, step = now, _newton_step(weights, inputs, targets)
        while _log_loss(weights - step, inputs, targets) > loss and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
    return Calibration(1 / float(weights[0]), float(weights[1])) if weights[0] > 0 else None


def _log_loss(weights: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> float:
    """The negative log likelihood of targets [N], 0 to 1; weights [2], inputs [2, N]."""
    odds = weights @ inputs
    return float((np.logaddexp(0, odds) - targets * odds).sum())


def _newton_step(weights: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    found = 1 / (1 + np.exp(-np.clip(weights @ inputs, -30, 30)))
    curvature = (inputs * (found * (1 - found))) @ inputs.T + 1e-9 * np.eye(2)
    return np.linalg.solve(curvature, inputs @ (found - targets))
