import numpy as np
import pytest

from training.evaluation import outcomes, pictures, score
from training.evaluation.score import Detected, Truth

LABELS = ("cell", "speck")
BOXES = np.array([[10, 10, 50, 50], [60, 60, 90, 80]], np.float32)
PHOTO = np.full((100, 200, 3), 200, np.uint8)


def _panels(
    classes: list[int], found: list[int], labels: tuple[str, ...] = LABELS, side: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    count, difficult = len(classes), np.zeros(len(classes), bool)
    truth = Truth("a", 200, 100, BOXES[:count], np.array(classes, int), difficult)
    detected = Detected("a", BOXES[: len(found)], np.full(len(found), 0.9), np.array(found, int))
    matches = score.score_detections([truth], [detected], labels).matches["a"][0]
    outcome = outcomes.outcome(truth, detected, matches, 0.5)
    return pictures.draw_panels(PHOTO, truth, detected, outcome, labels, (side, side))


def test_nothing_to_draw_leaves_the_photo_as_it_is() -> None:
    for panel in _panels([], []):
        np.testing.assert_array_equal(panel, PHOTO)


def _near(panel: np.ndarray, colour: str) -> np.ndarray:
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return np.abs(panel.astype(int) - wanted).max(axis=-1) < 40


def test_boxes_stand_where_they_belong() -> None:
    for panel in _panels([0], [0], side=400):
        assert panel.shape == (200, 400, 3)
        rows, columns = np.nonzero(_near(panel[25:], pictures.colour(0)))  # below the plate
        assert rows.max() + 25 == pytest.approx(100, abs=2)
        assert (columns.min(), columns.max()) == pytest.approx((20, 100), abs=2)


def test_detections_alone_are_drawn_where_they_belong() -> None:
    detected = Detected("a", BOXES, np.full(2, 0.9), np.array([0, 1]))
    picture = pictures.draw_detections(PHOTO, detected, LABELS, (400, 400))
    assert picture.shape == (200, 400, 3)
    for k, box in enumerate(2 * BOXES):
        rows, columns = np.nonzero(_near(picture, pictures.colour(k)))
        edges = (columns.min(), rows.min(), columns.max(), rows.max())
        assert edges == pytest.approx(box.tolist(), abs=2)


def test_mistakes_are_told_without_colour() -> None:
    """A right box has one thin line, a missed one dashes, a false one a cross inside."""
    right, missed, false = _panels([0], [0])[0], _panels([0], [])[0], _panels([], [0])[1]
    lower_edge = slice(20, 40), slice(49, 52)
    inside = slice(20, 40), slice(20, 40)

    def ink(panel: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
        return _near(panel.transpose(1, 0, 2)[place], pictures.colour(0)).any(axis=1)

    assert ink(right, lower_edge).all()
    assert ink(missed, lower_edge).any()
    assert not ink(missed, lower_edge).all()
    assert not ink(right, inside).any()
    assert ink(false, inside).any()


def test_marks_name_what_happened() -> None:
    truth = Truth("a", 100, 100, BOXES, np.array([0, 1]), np.array([False, True]))
    detected = Detected("a", BOXES, np.array([0.9, 0.8]), np.array([1, 1]))
    matches = score.score_detections([truth], [detected], LABELS).matches["a"][0]
    outcome = outcomes.outcome(truth, detected, matches, 0.5)
    words = [text for *_, text in pictures.truth_marks(truth, detected, outcome, LABELS)]
    assert words == ["difficult speck", "✗ cell, taken for speck"]
    words = [text for *_, text in pictures.detection_marks(truth, detected, outcome, LABELS)]
    assert words == ["difficult speck 0.80", "✗ speck 0.90, is cell"]


def test_with_more_classes_than_colours_every_box_is_named() -> None:
    many = tuple(f"kind {k}" for k in range(30))
    assert pictures.colour(29) in pictures.COLOURS
    assert pictures.class_text(many, 29) == "kind 29"
    assert pictures.class_text(LABELS, 1) == ""
