"""Which photos to label first: those a model doubts most, unlike what is labelled or chosen before.

Uncertainty is that of Brust et al. ("Active Learning for Deep Object Detection", VISAPP 2019): the
squared margin between the two likeliest answers, here object and no object, summed over a photo's
detections, and weighted so that a class that is rarely found counts as much as a frequent one.

Diversity is the k-center greedy choice of Sener and Savarese ("Active Learning for Convolutional
Neural Networks: A Core-Set Approach", ICLR 2018) over what the network makes of the whole photo.
Each step takes the photo whose uncertainty times distance to the nearest known one is largest, so
that neither alone decides, as in BADGE (Ash et al., ICLR 2020), where one vector holds both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data import resemblance

LEAST_SCORE = 0.05  # detections that score less are hardly doubted: by 0.01 of 1


@dataclass(frozen=True)
class Choice:
    """One photo of the order.

    place: among the photos to choose from.
    distance: to the nearest labelled or chosen photo, where 1 is usual among all photos; 0 where
        it looks like one of them, 1 where there was none yet.
    """

    place: int
    distance: float


def measure_doubts(scores: np.ndarray) -> np.ndarray:
    """How much each detection is doubted: 1 at a score of 0.5, 0 at 0 and 1. [N] -> [N]"""
    return (1.0 - np.abs(2.0 * scores - 1.0)) ** 2


def weigh_classes(counts: np.ndarray) -> np.ndarray:
    """The weight of each class's doubts, by how often the model finds it: int [C] -> float [C].

    Brust et al. weigh classes by how rare they are among the labelled objects.
    """
    return (counts.sum() + len(counts)) / (counts + 1.0)


def measure_uncertainty(
    doubts: Sequence[np.ndarray], classes: Sequence[np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Of each photo what its detections are doubted, by class and weighted: [P, C].

    Where nothing at all is found nobody knows: such a photo counts as the mean of the others.
    """
    rows = [
        np.bincount(k, weights=each, minlength=len(weights)) * weights
        for each, k in zip(doubts, classes, strict=True)
    ]
    found = np.array(rows).reshape(-1, len(weights))
    blind = np.array([not len(each) for each in doubts], bool)
    if blind.any() and not blind.all():
        found[blind] = found[~blind].mean(axis=0)
    return found


def order_photos(
    uncertainty: np.ndarray,
    features: np.ndarray,
    looks: Sequence[bytes],
    known: np.ndarray,
    count: int,
) -> list[Choice]:
    """The first of the photos in the order in which they should be labelled.

    Args:
        uncertainty: float [P], 0 or more.
        features: float [P, D].
        looks: of the photos, as `resemblance.look` tells them.
        known: float [K, D], features of photos that are labelled already.
        count: how many, P at most.
    """
    points = _standardise(np.concatenate([features, known]))
    points, centres = points[: len(features)], points[len(features) :]
    slopes = np.array([resemblance.unit_slopes(look) for look in looks])
    distances = np.full(len(points), np.inf)
    for centre in centres:
        distances = np.minimum(distances, np.linalg.norm(points - centre, axis=1))
    worth = uncertainty + max(float(uncertainty.max()), 1.0) * 1e-6  # at 0 distance decides
    free, order = np.ones(len(points), bool), list[Choice]()
    for _ in range(count):
        reach = np.where(np.isfinite(distances), distances, 1.0)
        place = int(np.argmax(np.where(free, worth * reach, -1.0)))
        order.append(Choice(place, float(reach[place])))
        free[place] = False
        distances = np.minimum(distances, np.linalg.norm(points - points[place], axis=1))
        distances[slopes @ slopes[place] >= resemblance.ALIKE] = 0.0
    return order


def _standardise(features: np.ndarray) -> np.ndarray:
    """Each column's deviation from its mean; two photos are 1 apart where that is usual.

    Two independent rows of D columns of variance 1 are sqrt(2 D) apart.
    """
    deviation = features - features.mean(axis=0)
    spread = features.std(axis=0)
    used = deviation[:, spread > 1e-6] / spread[spread > 1e-6]
    return used / np.sqrt(2 * max(used.shape[1], 1))
