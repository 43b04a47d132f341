"""The bootstrap's arithmetic is pycocotools', and its interval is the one that theory gives."""

import numpy as np
import pytest

from training.evaluation import score
from training.evaluation.score import Detected, Truth
from training.evaluation.spread import (
    Table,
    draw_precisions,
    measure_difference,
    measure_spread,
)

LABELS = ("cell", "speck")
BOX = np.array([[10, 10, 50, 50]], np.float32)


def make_photos(count: int, seed: int = 0) -> tuple[list[Truth], list[Detected]]:
    """Photos with up to four objects of two classes, found more or less well, and false ones."""
    random = np.random.default_rng(seed)
    truth, detected = [], []
    for number in range(count):
        objects = random.integers(0, 5)
        corners = random.uniform(0, 60, (objects, 2))
        boxes = np.hstack([corners, corners + random.uniform(10, 40, (objects, 2))])
        classes, difficult = random.integers(0, 2, objects), random.random(objects) < 0.1
        truth.append(Truth(str(number), 100, 100, boxes, classes, difficult))
        near = boxes + random.normal(0, 2, boxes.shape)
        found = np.concatenate([near, near + 30, BOX])
        scores = np.sort(random.random(len(found)))[::-1]
        order = random.permutation(len(found))
        of_found = np.concatenate([classes, classes, [0]])[order]
        detected.append(Detected(str(number), found[order], scores, of_found))
    return truth, detected


def repeat(images: list, times: np.ndarray) -> list:
    """Each image so many times, under names of their own."""
    fields = type(images[0])
    return [
        fields(f"{image.image_id}-{copy}", *list(vars(image).values())[1:])
        for image, count in zip(images, times, strict=True)
        for copy in range(count)
    ]


def test_a_draw_is_what_pycocotools_makes_of_these_photos() -> None:
    truth, detected = make_photos(12)
    evaluator = score.match_objects(truth, detected, LABELS)
    times = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), size=5)
    for k, label in enumerate(LABELS):
        found = draw_precisions(Table.of(evaluator, k, len(truth)), times)
        for precisions, drawn in zip(found, times, strict=True):
            expected = score.score_detections(
                repeat(truth, drawn), repeat(detected, drawn), LABELS
            ).per_class[label]
            assert precisions == pytest.approx(expected, abs=1e-9)


def test_the_interval_of_a_share_is_the_one_of_theory() -> None:
    truth, detected = find_some(np.random.default_rng(0).random(400) < 0.7)
    spread = measure_spread(truth, detected, ("cell",))
    assert spread is not None
    assert spread.map50 == pytest.approx(1.96 * np.sqrt(0.3 * 0.7 / 400), rel=0.15)
    assert spread.per_class["cell"] == (spread.map50, spread.map)


def find_some(found: np.ndarray) -> tuple[list[Truth], list[Detected]]:
    """One object a photo, found or not, nothing false: mAP is the share that was found."""
    truth = [
        Truth(str(n), 100, 100, BOX, np.zeros(1, int), np.zeros(1, bool)) for n in range(len(found))
    ]
    detected = [
        Detected(str(n), BOX[:hit], np.full(hit, 0.9), np.zeros(hit, int))
        for n, hit in enumerate(found.astype(int))
    ]
    return truth, detected


def test_the_interval_of_a_difference_is_the_one_of_theory() -> None:
    """Of two shares on the same photos: Agresti, Categorical Data Analysis, section 10.1."""
    random = np.random.default_rng(0)
    was = random.random(400) < 0.7
    now = np.where(random.random(400) < 0.3, ~was, was)
    (truth, one), (_, other) = find_some(was), find_some(now)
    told = measure_difference(truth, one, other, ("cell",))
    assert told is not None
    found = told.figures[0]
    gain: np.ndarray = now.astype(float) - was
    assert found.difference == pytest.approx(gain.mean(), abs=0.01)  # at 101 recalls
    off = (found.high - found.low) / 2
    assert off == pytest.approx(1.96 * gain.std() / 20, rel=0.2)
    alone = [measure_spread(truth, x, ("cell",)) for x in (one, other)]
    assert off < np.linalg.norm([x.map50 for x in alone if x])  # which is what two intervals tell
    assert told.per_class["cell"] == told.figures


def test_whether_a_difference_is_chance() -> None:
    truth, one = make_photos(40)
    same = measure_difference(truth, one, one, LABELS)
    assert same is not None
    assert same.figures[0] == same.figures[1] == (0, 0, 0)
    assert same.figures[0].is_chance
    missing = [Detected(d.image_id, BOX[:0], d.scores[:0], d.classes[:0]) for d in one]
    worse = measure_difference(truth, one, missing, LABELS)
    assert worse is not None
    before = score.score_detections(truth, one, LABELS)
    assert worse.figures[1].difference == pytest.approx(-before.map)
    assert worse.per_class["speck"][0].difference == pytest.approx(-before.per_class["speck"][0])
    assert worse.figures[1].high < 0
    assert not worse.figures[1].is_chance


def test_of_few_photos_nothing_is_told() -> None:
    assert measure_spread(*make_photos(9), LABELS) is None
    truth, detected = make_photos(9)
    assert measure_difference(truth, detected, detected, LABELS) is None
    assert measure_spread(*make_photos(10), LABELS) is not None


def test_a_single_photo_has_objects() -> None:
    truth, detected = make_photos(30)
    empty = [
        Truth(t.image_id, 100, 100, BOX[:0], np.zeros(0, int), np.zeros(0, bool)) for t in truth[1:]
    ]
    only = Truth("0", 100, 100, BOX, np.zeros(1, int), np.zeros(1, bool))
    spread = measure_spread([only, *empty], detected, LABELS)
    assert spread is not None
    assert np.isfinite([spread.map50, spread.map]).all()


def test_a_class_that_hardly_any_draw_has() -> None:
    truth, detected = make_photos(40)
    rare = [
        Truth(t.image_id, 100, 100, t.boxes_xyxy, np.zeros_like(t.classes), t.difficult)
        for t in truth[1:]
    ]
    only = Truth("0", 100, 100, BOX, np.ones(1, int), np.zeros(1, bool))
    spread = measure_spread([only, *rare], detected, LABELS)
    assert spread is not None
    assert np.isfinite([spread.map50, spread.map, *spread.per_class["speck"]]).all()
