"""What to do next, in words, from what was annotated and what was detected of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from training.data.small_objects import advise_small
from training.evaluation.outcomes import Outcome, iou
from training.evaluation.score import Detected, Truth
from training.evaluation.sizes import scale_to_input
from training.network.presets import Resize

FEW = 10  # objects of a class
ENOUGH = 20  # found objects of a class, to say how its boxes vary
LOOSE = 0.1  # of an object's side; consistent boxes of cells and raccoons have 0.05 to 0.07
UNLABELLED = 3  # detections that may be objects
SHOWN = 4  # photos
SERVED = 0.5  # the score threshold of requests that name none


@dataclass(frozen=True)
class Advice:
    """A sentence, and the ids of photos that show it, the clearest first."""

    text: str
    images: tuple[str, ...] = ()


def advise(
    truth: Mapping[str, Truth],
    detected: Mapping[str, Detected],
    outcomes: Mapping[str, Outcome],
    labels: tuple[str, ...],
    threshold: float,
    side: int = 0,
    resize: Resize = "stretch",
) -> tuple[Advice, ...]:
    """What is worth doing about a split, the most telling first.

    Args:
        truth, detected, outcomes: by image id.
        threshold: of the outcomes' scores.
        side, resize: of the network's input; side 0: not known.
    """
    return (
        *_advise_scores(detected, outcomes, threshold),
        *(_advise_small([*truth.values()], side, resize) if side else ()),
        *_advise_unlabelled(truth, detected, outcomes, threshold),
        *_advise_loose(truth, detected, outcomes, labels),
        *_advise_few([*truth.values()], labels),
    )


def _advise_scores(
    detected: Mapping[str, Detected], outcomes: Mapping[str, Outcome], threshold: float
) -> Iterator[Advice]:
    """That most of what is found has too low a score to be shown: of a training that was short."""
    scores = [detected[name].scores[one.shown[one.right]] for name, one in outcomes.items()]
    found = np.concatenate([np.zeros(0), *scores])
    shown = int((found >= SERVED).sum())
    if shown < len(found) / 2:
        yield Advice(
            f"Of {len(found)} objects that are found above a score of {threshold:.2f}, {shown} "
            f"have {SERVED:g}, below which the service shows nothing unless it is asked: train "
            f"longer (--epochs), or ask with --score-threshold {threshold:.2f}."
        )


def _advise_small(truth: list[Truth], side: int, resize: Resize) -> Iterator[Advice]:
    """That objects are too small for the network's input."""
    seen = scale_to_input(truth, truth, side, resize)
    shares = [
        (image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2])[~image.difficult] / side
        for image in seen
    ]
    if text := advise_small(np.concatenate([np.zeros((0, 2)), *shares]), side):
        yield Advice(text)


def _advise_unlabelled(
    truth: Mapping[str, Truth],
    detected: Mapping[str, Detected],
    outcomes: Mapping[str, Outcome],
    threshold: float,
) -> Iterator[Advice]:
    """That the network is sure of objects where nothing is annotated."""
    counts = {
        name: _count_untouched(truth[name], detected[name], one) for name, one in outcomes.items()
    }
    if (count := sum(counts.values())) >= UNLABELLED:
        most = sorted(filter(counts.__getitem__, counts), key=lambda name: (-counts[name], name))
        yield Advice(
            f"{count} detections with a score above {threshold:.2f} touch no annotation: objects "
            "that nobody annotated? Look, and annotate those that are (docs/corrections.md): here "
            "they count as false, and in training they teach that there is nothing.",
            tuple(most[:SHOWN]),
        )


def _count_untouched(truth: Truth, detected: Detected, outcome: Outcome) -> int:
    boxes = detected.boxes_xyxy[outcome.shown[outcome.false]]
    return int((iou(boxes, truth.boxes_xyxy).max(axis=1, initial=0) == 0).sum())


def _advise_loose(
    truth: Mapping[str, Truth],
    detected: Mapping[str, Detected],
    outcomes: Mapping[str, Outcome],
    labels: tuple[str, ...],
) -> Iterator[Advice]:
    """That annotators draw a class's boxes now tight and now wide.

    A network draws what its annotators draw on average, so how much an object's box is larger or
    smaller than the network's of it varies as theirs do, and with the network's own mistakes.
    """
    pairs = [
        (name, *pair)
        for name, one in outcomes.items()
        for pair in _pair_sides(truth[name], detected[name], one)
    ]
    for k, label in enumerate(labels):
        of_class = [(name, ratio) for name, c, ratio in pairs if c == k]
        if len(of_class) < ENOUGH:
            continue
        ratios = np.array([ratio for _, ratio in of_class])
        off = np.abs(ratios - np.median(ratios))
        if (spread := float(np.median(off))) >= LOOSE:
            farthest = [of_class[place][0] for place in np.argsort(-off)]
            yield Advice(
                f"Boxes of {label} vary in tightness: half of them are more than {spread:.0%} "
                "wider or narrower than usual beside the network's. Agree on what belongs to one, "
                "and draw the others anew.",
                tuple(dict.fromkeys(farthest))[:SHOWN],
            )


def _pair_sides(truth: Truth, detected: Detected, outcome: Outcome) -> Iterator[tuple[int, float]]:
    """Of each object that was found its class, and the logarithm of its side over the network's."""
    rows = outcome.shown[outcome.right]
    overlaps = iou(detected.boxes_xyxy[rows], truth.boxes_xyxy)
    overlaps = np.where(detected.classes[rows][:, None] == truth.classes, overlaps, 0)
    for row, place in zip(rows, overlaps.argmax(axis=1) if len(rows) else (), strict=True):
        sides = _sides(np.stack([truth.boxes_xyxy[place], detected.boxes_xyxy[row]]))
        yield int(detected.classes[row]), float(np.log(sides[0] / sides[1]))


def _advise_few(truth: list[Truth], labels: tuple[str, ...]) -> Iterator[Advice]:
    """That a class has too few objects for its figures to mean much."""
    classes = np.concatenate([image.classes[~image.difficult] for image in truth])
    counts = np.bincount(classes.astype(int), minlength=len(labels))
    few = {label: int(n) for label, n in zip(labels, counts, strict=True) if n < FEW}
    if few:
        listed = ", ".join(f"{label} {n}" for label, n in few.items())
        yield Advice(
            f"Few objects to measure on: {listed}. Each that is found or not moves its class's AP "
            "by a tenth or more: annotate more of them, or hold out more photos."
        )


def _sides(boxes_xyxy: np.ndarray) -> np.ndarray:
    """The geometric mean of width and height of boxes [N, 4]: [N]."""
    return np.sqrt((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1))
