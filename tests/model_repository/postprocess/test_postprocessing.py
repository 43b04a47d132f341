"""Boxes to detections: suppression against a plain reference, ties, edges, parameters."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configure
from hypothesis import strategies as st

SIZE = np.array([100, 200], np.int32)


def floats(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture
def postprocessing(load: Callable[..., ModuleType]):
    return load("postprocess", "postprocessing")


@pytest.fixture
def settings(postprocessing):
    return postprocessing.Settings(0.5, 0.45, 100)


@pytest.fixture
def reader(postprocessing, settings):
    return postprocessing.SettingsReader(settings, 100, "triton_.*|x-.*")


def reference(
    boxes: np.ndarray, scores: np.ndarray, score_threshold: float, iou_threshold: float
) -> list[tuple[int, int]]:
    """(row, class) of what is left, best first: the greedy algorithm, word by word."""
    candidates = [
        (-float(scores[row, kind]), row, kind)
        for row in range(len(boxes))
        for kind in range(scores.shape[1])
        if float(scores[row, kind]) > score_threshold
    ]
    kept: list[tuple[int, int]] = []
    for _, row, kind in sorted(candidates):
        rivals = [other for other, other_kind in kept if other_kind == kind]
        if all(iou(boxes[row], boxes[other]) <= iou_threshold for other in rivals):
            kept.append((row, kind))
    return kept


def iou(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def random_case(seed: int, grid: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Crowded boxes inside the image; on a grid, many share sides, overlaps and scores."""
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.uniform(0, 1, (40, 2, 2)), axis=1).reshape(40, 4)
    scores = generator.uniform(0, 1, (40, 3))
    if grid:
        corners, scores = np.round(corners * grid) / grid, np.round(scores * 8) / 8
    boxes = corners[(corners[:, 2:] > corners[:, :2]).all(axis=1)]
    return boxes.astype(np.float32), scores[: len(boxes)].astype(np.float32)


def test_no_boxes(postprocessing, settings) -> None:
    found = postprocessing.detect(np.zeros((0, 4)), np.zeros((0, 3)), SIZE, settings)

    assert [len(part) for part in found] == [0, 0, 0]
    assert found.boxes_xyxy.shape == (0, 4)


def test_nothing_above_the_threshold(postprocessing, settings) -> None:
    boxes = floats([[0, 0, 1, 1]])

    assert len(postprocessing.detect(boxes, floats([[0.5]]), SIZE, settings).scores) == 0
    assert len(postprocessing.detect(boxes, floats([[0.51]]), SIZE, settings).scores) == 1


def test_each_class_has_its_own_threshold(postprocessing) -> None:
    texts = {"score_threshold": "0.5", "iou_threshold": "0.45", "max_detections": "9"}
    defaults = postprocessing.parse_settings(texts | {"score_thresholds": "[0.8, 0.3]"})
    reader = postprocessing.SettingsReader(defaults, 100, "")
    boxes, scores = floats([[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1]]), floats([[0.7, 0.3], [0.9, 0.4]])

    def found(**parameters: float) -> list[float]:
        settings = reader.read(parameters)
        return postprocessing.detect(boxes, scores, SIZE, settings).scores.round(2).tolist()

    assert found() == found(max_detections=5) == floats([0.9, 0.4]).round(2).tolist()
    assert found(score_threshold=0.5) == floats([0.9, 0.7]).round(2).tolist()  # its own, of all
    with pytest.raises(postprocessing.RequestError, match="has 2 numbers, one for each of the 3"):
        postprocessing.detect(boxes, np.zeros((2, 3)), SIZE, defaults)


@pytest.mark.parametrize("text", ["[0.5, 2]", "0.5", "[0.5", '["a"]', "[true]"])
def test_thresholds_that_are_none(postprocessing, text: str) -> None:
    texts = {"score_threshold": "0.5", "iou_threshold": "0.45", "max_detections": "9"}
    with pytest.raises(postprocessing.RequestError, match=r"^score_thresholds is .* expected$"):
        postprocessing.SettingsReader(
            postprocessing.parse_settings(texts | {"score_thresholds": text}), 100, ""
        )


def test_one_box_in_pixels(postprocessing, settings) -> None:
    found = postprocessing.detect(
        floats([[0.1, 0.2, 0.3, 0.4]]), floats([[0, 0, 0.9]]), SIZE, settings
    )

    np.testing.assert_allclose(found.boxes_xyxy, [[20, 20, 60, 40]], rtol=1e-6)
    assert found.scores.tolist() == [np.float32(0.9)]
    assert found.classes.tolist() == [2]
    assert [part.dtype for part in found] == [np.float32, np.float32, np.int32]


@pytest.mark.parametrize("grid", [0, 6])
@pytest.mark.parametrize("seed", range(15))
def test_as_the_reference(postprocessing, seed: int, grid: int) -> None:
    boxes, scores = random_case(seed, grid)
    settings = postprocessing.Settings(0.3, 0.45, 1000)

    found = postprocessing.detect(boxes, scores, SIZE, settings)

    expected = reference(boxes.astype(np.float64), scores, 0.3, 0.45)
    rows, classes = np.array(expected).T
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_array_equal(found.scores, scores[rows, classes])
    np.testing.assert_allclose(found.boxes_xyxy, boxes[rows] * [200, 100, 200, 100], rtol=1e-6)


@pytest.mark.parametrize("seed", range(15))
def test_boxes_vote_as_the_reference(postprocessing, seed: int) -> None:
    boxes, scores = random_case(seed)
    boxes = np.concatenate([boxes, np.clip(boxes + floats([0.01, -0.01, 0.02, 0]), 0, 1)])
    scores = np.concatenate([scores, scores * floats(0.9)])
    settings = postprocessing.Settings(0.3, 0.45, 1000)
    plain = postprocessing.detect(boxes, scores, SIZE, settings)
    found = postprocessing.detect(boxes, scores, SIZE, settings, voting_iou=0.7)

    np.testing.assert_array_equal(found.scores, plain.scores)
    np.testing.assert_array_equal(found.classes, plain.classes)
    for box, before, kind in zip(found.boxes_xyxy, plain.boxes_xyxy, found.classes, strict=True):
        kept = before / [200, 100, 200, 100]
        votes = [row for row in range(len(boxes)) if iou(kept, boxes[row]) >= 0.7]
        weights = scores[votes, kind].astype(float)
        mean = (boxes[votes] * weights[:, None]).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(box, mean * [200, 100, 200, 100], rtol=1e-4)
    assert (found.boxes_xyxy != plain.boxes_xyxy).any()


def test_a_requests_threshold_changes_no_box(postprocessing) -> None:
    """Not by a bit: what it leaves out still votes, and rounding does not depend on it."""
    cases = [random_case(seed) for seed in range(10)]
    boxes, scores = (np.concatenate(parts) for parts in zip(*cases, strict=True))
    all_of_them = postprocessing.Settings(0.0, 0.45, 1000)
    found = postprocessing.detect(boxes, scores, SIZE, all_of_them, voting_iou=0.5)
    few = postprocessing.detect(
        boxes, scores, SIZE, replace(all_of_them, score_threshold=0.8), voting_iou=0.5
    )
    np.testing.assert_array_equal(few.boxes_xyxy, found.boxes_xyxy[: len(few.scores)])


def test_boxes_that_are_none_do_not_vote(postprocessing, settings) -> None:
    boxes = floats([[0, 0, 0.5, 0.5], [0.4, 0.4, 0.1, 0.1], [np.nan, 0, 1, 1], [0, 0, 0.5, 0.5]])
    scores = floats([[0.9], [0.9], [0.9], [np.nan]])
    found = postprocessing.detect(boxes, scores, SIZE, settings, voting_iou=0.1)
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 100, 50]])


@pytest.mark.parametrize("text", ["-0.1", "1.1", "half", "nan", ""])
def test_a_voting_iou_out_of_range(postprocessing, text: str) -> None:
    with pytest.raises(postprocessing.RequestError, match=r"voting_iou is .* expected"):
        postprocessing.parse_voting_iou({"voting_iou": text})
    assert postprocessing.parse_voting_iou({}) == 0


def test_identical_boxes(postprocessing, settings) -> None:
    boxes = np.tile(floats([0.1, 0.1, 0.5, 0.5]), (5, 1))
    scores = floats([[0.6, 0], [0.9, 0.7], [0.8, 0.7], [0.9, 0], [0, 0.6]])

    found = postprocessing.detect(boxes, scores, SIZE, settings)

    assert list(zip(found.scores.round(1), found.classes, strict=True)) == [
        (np.float32(0.9), 0),
        (np.float32(0.7), 1),
    ]


def test_ties_keep_their_order(postprocessing, settings) -> None:
    x = np.arange(8, dtype=np.float32) / 8
    boxes = np.stack([x, 0 * x, x + 0.1, 0 * x + 0.1], axis=1)

    found = postprocessing.detect(boxes, np.full((8, 1), 0.75, np.float32), SIZE, settings)

    np.testing.assert_allclose(found.boxes_xyxy[:, 0], x * 200)


def test_small_boxes_are_not_rounded(postprocessing, settings) -> None:
    boxes = floats([[0.1, 0.1, 0.101, 0.101], [0.9, 0.9, 0.901, 0.901]])

    assert len(postprocessing.detect(boxes, floats([[0.9], [0.9]]), SIZE, settings).scores) == 2


def test_the_best_of_all_classes_are_kept(postprocessing) -> None:
    boxes, scores = random_case(0)

    few = postprocessing.detect(boxes, scores, SIZE, postprocessing.Settings(0.0, 1.0, 7))

    np.testing.assert_array_equal(few.scores, np.sort(scores, axis=None)[::-1][:7])


def test_boxes_beyond_the_image_are_clipped_or_dropped(postprocessing, settings) -> None:
    boxes = floats([[-0.5, -0.5, 0.5, 0.5], [0.9, 0.9, 1.5, 1.5], [-2, 0, -1, 1], [2, 2, 3, 3]])

    found = postprocessing.detect(boxes, np.full((4, 1), 0.9, np.float32), SIZE, settings)

    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 100, 50], [180, 90, 200, 100]], rtol=1e-6)


def test_classes_stay_apart_whatever_the_boxes_are(postprocessing, settings) -> None:
    boxes = floats([[-9, -9, 9, 9], [0, 0, 1, 1], [0.5, 0, 1, 1]])
    scores = floats([[0.9, 0, 0], [0, 0.8, 0], [0, 0, 0.7]])

    found = postprocessing.detect(boxes, scores, SIZE, settings)

    assert found.classes.tolist() == [0, 1, 2]


def test_boxes_that_are_none(postprocessing, settings) -> None:
    nan, inf = np.nan, np.inf
    boxes = floats([[nan, 0, 1, 1], [nan] * 4, [0.5, 0, 0.4, 1], [0, 0, 0, 1], [-inf, 0, inf, 1]])
    scores = floats([[0.9], [0.9], [0.9], [0.9], [0.9]])

    found = postprocessing.detect(boxes, scores, SIZE, settings)

    np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, 200, 100]])
    assert len(postprocessing.detect(boxes, scores * nan, SIZE, settings).scores) == 0


@configure(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    numbers=st.lists(st.floats(width=32), min_size=24, max_size=24),
    chances=st.lists(st.floats(width=32), min_size=12, max_size=12),
)
def test_anything_gives_sound_boxes(
    postprocessing: Any, numbers: list[float], chances: list[float]
) -> None:
    found = postprocessing.detect(
        np.array(numbers, np.float32).reshape(6, 4),
        np.array(chances, np.float32).reshape(6, 2),
        SIZE,
        postprocessing.Settings(0.5, 0.45, 5),
    )
    x1, y1, x2, y2 = found.boxes_xyxy.T
    assert ((x1 >= 0) & (x1 <= x2) & (x2 <= 200) & (y1 >= 0) & (y1 <= y2) & (y2 <= 100)).all()
    assert len(found.scores) <= 5
    assert (np.diff(found.scores[np.isfinite(found.scores)]) <= 0).all()


def test_sizes(postprocessing) -> None:
    postprocessing.check_sizes(np.array([[1, 1], [2**31 - 1, 5]]))
    with pytest.raises(postprocessing.RequestError, match="image 1: height 0, width 5"):
        postprocessing.check_sizes(np.array([[1, 1], [0, 5], [-1, -1]]))


def test_settings_default(reader, settings) -> None:
    assert reader.read({}) == settings


def test_settings_of_a_request(reader, postprocessing) -> None:
    given = {"score_threshold": 0, "iou_threshold": 1.0, "max_detections": 100}

    assert reader.read(given) == postprocessing.Settings(0, 1.0, 100)
    assert reader.read({"max_detections": 1}) == postprocessing.Settings(0.5, 0.45, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("score_threshold", "iou_threshold")
            for value in (-0.1, 1.1, 2, True, "abc", "0.5", None, [0.5], float("nan"), float("inf"))
        ),
        *(("max_detections", value) for value in (0, 101, -1, 1.0, 1.5, True, "5", 2**70, None)),
    ],
)
def test_settings_out_of_range(reader, postprocessing, name: str, value: Any) -> None:
    with pytest.raises(postprocessing.RequestError, match=f"^{name} is .* expected$"):
        reader.read({name: value})


def test_a_long_value_makes_no_long_message(reader, postprocessing) -> None:
    for parameters in ({"score_threshold": "x" * 10**6}, {"y" * 10**6: 1}):
        with pytest.raises(postprocessing.RequestError) as caught:
            reader.read(parameters)
        assert len(str(caught.value)) < 200


def test_a_misspelt_parameter(reader, postprocessing) -> None:
    with pytest.raises(postprocessing.RequestError) as caught:
        reader.read({"score_treshold": 0.5})

    assert str(caught.value) == (
        "unknown parameter 'score_treshold', "
        "known are score_threshold, iou_threshold, max_detections"
    )


def test_of_several_wrong_ones_the_same_is_named(reader, postprocessing) -> None:
    wrong = {"max_detections": 0, "score_threshold": 2}
    for parameters in (wrong, dict(reversed(wrong.items()))):
        with pytest.raises(postprocessing.RequestError, match=r"^score_threshold is 2"):
            reader.read(parameters)


def test_parameters_of_others(reader, settings) -> None:
    assert (
        reader.read({"triton_enable_empty_final_response": True, "x-request-id": "a"}) == settings
    )


def test_defaults_are_checked(postprocessing) -> None:
    texts = {"score_threshold": "0.5", "iou_threshold": "0.45", "max_detections": "300"}
    defaults = postprocessing.parse_settings(texts)

    with pytest.raises(postprocessing.RequestError, match="max_detections is 300"):
        postprocessing.SettingsReader(defaults, 200, "")


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    resize=st.sampled_from(["stretch", "letterbox"]),
)
@configure(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_box_comes_back_from_the_input(
    postprocessing, width: int, height: int, shares: list[float], resize: str
) -> None:
    """Within a hundredth of a pixel; the way there is that of training's windows."""
    extent = np.array([width, height], np.float32)
    box = np.sort(np.reshape(shares, (2, 2)), axis=0).astype(np.float32) * extent  # [2, 2]
    canvas = extent if resize == "stretch" else np.repeat(extent.max(), 2)
    on_input = ((box + (canvas - extent) / 2) / canvas).reshape(1, 4).astype(np.float32)
    found = postprocessing.to_pixels(on_input, np.array([height, width], np.int32), resize)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], box.ravel(), atol=0.01)


def test_boxes_are_clipped_to_a_letterboxed_photo(postprocessing, settings) -> None:
    """100 high, 200 wide: the photo is the middle half of the input's height."""
    boxes = floats([[0, 0.1, 0.5, 0.5], [0.5, 0, 0.6, 0.25], [0.5, 0.5, 0.75, 1]])
    found = postprocessing.detect(boxes, floats([[0.9], [0.8], [0.7]]), SIZE, settings, "letterbox")

    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 100, 50], [100, 50, 150, 100]], rtol=1e-6)
    assert found.scores.tolist() == floats([0.9, 0.7]).tolist()  # none for what lies in the grey
    assert found.classes.tolist() == [0, 0]


def test_boxes_in_the_grey_do_not_count(postprocessing, settings) -> None:
    boxes = floats([[0.5, 0, 0.6, 0.2], [0.5, 0.5, 0.75, 0.75]])
    one = replace(settings, max_detections=1)
    found = postprocessing.detect(boxes, floats([[0.9], [0.8]]), SIZE, one, "letterbox")
    assert found.scores.tolist() == floats([0.8]).tolist()


def test_how_photos_were_resized_is_one_of_two(postprocessing) -> None:
    assert postprocessing.parse_resize({}) == "stretch"
    assert postprocessing.parse_resize({"resize": "letterbox"}) == "letterbox"
    with pytest.raises(postprocessing.RequestError, match="resize is 'Stretch', stretch or letter"):
        postprocessing.parse_resize({"resize": "Stretch"})
