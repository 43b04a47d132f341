import numpy as np
import pytest

from training.evaluation import score
from training.evaluation.advice import advise
from training.evaluation.outcomes import outcome
from training.evaluation.score import Detected, Truth

LABELS = ("cell", "speck")
SHAPE = np.array([10, 10, 50, 50], np.float32)


def photos(count: int, factors: np.ndarray) -> tuple[list[Truth], list[Detected]]:
    """Photos of one cell; its box is wider than the detection of it by a factor of its own."""
    middle, half = SHAPE.reshape(2, 2).mean(axis=0), 20.0
    truth = [
        Truth(
            str(n),
            640,
            640,
            np.array([[*(middle - half * f), *(middle + half * f)]], np.float32),
            np.zeros(1, int),
            np.zeros(1, bool),
        )
        for n, f in zip(range(count), factors, strict=True)
    ]
    return truth, [
        Detected(t.image_id, SHAPE[None], np.full(1, 0.9), np.zeros(1, int)) for t in truth
    ]


def told(truth: list[Truth], detected: list[Detected], side: int = 0) -> dict[str, tuple[str, ...]]:
    metrics = score.score_detections(truth, detected, LABELS)
    objects, found = {t.image_id: t for t in truth}, {d.image_id: d for d in detected}
    outcomes = {k: outcome(objects[k], found[k], metrics.matches[k][0], 0.5) for k in objects}
    return {x.text: x.images for x in advise(objects, found, outcomes, LABELS, 0.5, side)}


def starts(found: dict[str, tuple[str, ...]], words: str) -> list[tuple[str, ...]]:
    return [images for text, images in found.items() if text.startswith(words)]


def test_nothing_to_do_but_a_class_without_objects() -> None:
    found = told(*photos(30, np.full(30, 1.1)), side=640)
    assert list(found) == [
        "Few objects to measure on: speck 0. Each that is found or not moves its class's AP by a "
        "tenth or more: annotate more of them, or hold out more photos."
    ]


@pytest.mark.parametrize("sure", [14, 15])
def test_scores_below_what_the_service_shows(sure: int) -> None:
    truth, detected = photos(30, np.ones(30))
    for one in detected[sure:]:
        one.scores[:] = 0.3
    metrics = score.score_detections(truth, detected, LABELS)
    objects, found = {t.image_id: t for t in truth}, {d.image_id: d for d in detected}
    outcomes = {k: outcome(objects[k], found[k], metrics.matches[k][0], 0.25) for k in objects}
    said = [x.text for x in advise(objects, found, outcomes, LABELS, 0.25)]
    assert any("found above a score of 0.25, 14 have 0.5" in text for text in said) == (sure == 14)


def test_boxes_that_vary_in_tightness() -> None:
    """Those of photo 7 most of all; that all are wider than the network's does not count."""
    factors = 1.1 * np.where(np.arange(30) % 2, 0.88, 1.12)
    factors[7] = 0.75
    found = told(*photos(30, factors))
    (images,) = starts(found, "Boxes of cell vary in tightness: half of them are more than 12%")
    assert images[0] == "7"
    assert len(images) == 4


def test_sure_detections_where_nothing_is_annotated() -> None:
    truth, detected = photos(10, np.ones(10))
    for n, scores in ((3, [0.8, 0.7]), (5, [0.9]), (6, [0.4])):
        more = np.array([[100, 100, 130, 130], [200, 200, 230, 230]], np.float32)[: len(scores)]
        detected[n] = Detected(
            str(n),
            np.concatenate([SHAPE[None], more]),
            np.array([0.9, *scores]),
            np.zeros(1 + len(scores), int),
        )
    (images,) = starts(told(truth, detected), "3 detections with a score above 0.50 touch no ann")
    assert images == ("3", "5")
    touching = SHAPE + 39  # one pixel
    detected[3] = Detected(
        "3", np.stack([SHAPE, touching, touching]), np.full(3, 0.9), np.zeros(3, int)
    )
    assert starts(told(truth, detected), "") == starts(told(truth, detected), "Few objects")


@pytest.mark.parametrize(("side", "pixels"), [(240, 15), (100, 6), (300, None)])
def test_objects_that_are_small_at_the_input(side: int, pixels: int | None) -> None:
    truth, detected = photos(12, np.ones(12))
    words = f"The median object is {pixels} pixels at an input of {side}x{side}: "
    assert len(starts(told(truth, detected, side), words)) == (pixels is not None)
    difficult = [
        Truth(t.image_id, 640, 640, t.boxes_xyxy, t.classes, np.ones(1, bool)) for t in truth
    ]
    assert starts(told(difficult, detected, side), "The median") == []
