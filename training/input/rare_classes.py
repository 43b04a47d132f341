"""Classes that few photos show: these photos come more often, and their objects count more.

Repeat-factor sampling: Gupta, Dollár and Girshick, "LVIS" (arXiv 1908.03195v2), appendix B.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.problems import DataError
from training.data.records import Manifest, dataset


@dataclass(frozen=True)
class Rarity:
    """What is done for rare classes; None: nothing.

    repeats: how often each image of the split comes beside the others, float64 [N], 1 or more.
    weights: of an object in the class loss, by its class, float32 [C].
    """

    repeats: np.ndarray | None = None
    weights: np.ndarray | None = None


def plan_rarity(manifest: Manifest, repeat_rare: float, weigh_rare: float) -> Rarity:
    """Read a split's classes where they are asked for.

    Args:
        repeat_rare: `repeat_factors`' threshold, 0 to 1; 0: no image is repeated.
        weigh_rare: `class_weights`' power, 0 to 1; 0: all objects count alike.

    Raises:
        DataError: a class has no object.
    """
    if not repeat_rare and not weigh_rare:
        return Rarity()
    classes = _read_classes(manifest)
    counts = np.bincount(np.concatenate(classes), minlength=len(manifest.labels))
    if not counts.all():
        label = manifest.labels[int(counts.argmin())]
        raise DataError(
            f"{manifest.directory}: {label} has no object in {manifest.split}, so "
            f"{'--repeat-rare' if repeat_rare else '--weigh-rare'} cannot help it: annotate some, "
            "or leave the class out with `python -m training records --rename`"
        )
    return Rarity(
        repeat_factors(classes, len(counts), repeat_rare) if repeat_rare else None,
        class_weights(counts, weigh_rare) if weigh_rare else None,
    )


def _read_classes(manifest: Manifest) -> list[np.ndarray]:
    """The classes of each image's objects, without those that are difficult."""
    examples = dataset(manifest).map(lambda e: (e["classes"], e["difficult"]))
    return [classes[~difficult] for classes, difficult in examples.as_numpy_iterator()]


def repeat_factors(classes: Sequence[np.ndarray], count: int, threshold: float) -> np.ndarray:
    """How often each image comes: as often as the rarest of its classes asks for, float64 [N].

    A class in a share f of the images asks for sqrt(threshold / f), 1 at least.

    Args:
        classes: of each image's objects, int, below `count`.
        threshold: share of the images, above 0.
    """
    shows = np.array([np.bincount(each, minlength=count) > 0 for each in classes])  # [N, C]
    share = shows.mean(axis=0)
    asked = np.sqrt(np.maximum(threshold / np.maximum(share, 1 / len(classes)), 1))
    return np.where(shows, asked, 1.0).max(axis=1, initial=1.0)


def class_weights(counts: np.ndarray, power: float) -> np.ndarray:
    """What an object of each class counts: a power of one over the class's objects, float32 [C].

    The mean over all objects is 1, so that the loss is as large as without. With a power of 1 all
    classes count alike, with 0.5 they are half way there.
    """
    weights = counts ** -float(power)
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)
