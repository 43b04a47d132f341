"""Weighted boxes fusion: against the authors' package, a plain reference, and by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

GOLDEN = json.loads((Path(__file__).parent / "fusion_golden.json").read_text())
SIZE = np.array([100, 200], np.int32)
IOU = 0.55
NETWORK_BOX = [0.2, 0.2, 0.4, 0.4]
MOVED_BOX = [0.22, 0.2, 0.42, 0.4]


@pytest.fixture
def postprocessing(load: Callable[..., ModuleType]):
    return load("postprocess", "postprocessing")


@pytest.fixture
def fusion(postprocessing, load: Callable[..., ModuleType]):
    return load("postprocess", "fusion")


@pytest.fixture
def settings(postprocessing):
    return postprocessing.Settings(0.5, 0.45, 100)


def found(postprocessing, boxes: Any, scores: Any, classes: Any) -> Any:
    return postprocessing.Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes)
    )


def network(*boxes_with_scores: tuple[list[float], float]) -> tuple[np.ndarray, np.ndarray]:
    """What a network of two classes gives: boxes, and their scores of class 0."""
    boxes, scores = zip(*boxes_with_scores, strict=True)
    return np.array(boxes, np.float32), np.array([[s, 0] for s in scores], np.float32)


def reference(members: list[Any], iou_threshold: float) -> list[tuple[float, int, list[float]]]:
    """(score, class, box) of each object, best first: the paper's section 3, word by word."""
    every = [each for member in members for each in zip(*member, strict=True)]
    clusters: list[list[tuple[float, Any, int]]] = []
    for box, score, kind in sorted(every, key=lambda each: -each[1]):
        near = [(iou(mean(own), box), own) for own in clusters if own[0][2] == kind]
        best = max(near, key=lambda pair: pair[0], default=(0.0, []))
        if best[0] > iou_threshold:
            best[1].append((score, box, kind))
        else:
            clusters.append([(score, box, kind)])
    count = len(members)
    fused = [
        (sum(s for s, *_ in own) / len(own) * min(len(own), count) / count, own[0][2], mean(own))
        for own in clusters
    ]
    return sorted(fused, key=lambda each: -each[0])


def mean(cluster: list[tuple[float, Any, int]]) -> list[float]:
    total = sum(score for score, *_ in cluster)
    return [sum(score * float(box[i]) for score, box, _ in cluster) / total for i in range(4)]


def iou(one: Any, other: Any) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def random_members(postprocessing, seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 0.7, (random.integers(0, 12), 2))
    objects = np.hstack([corners, corners + random.uniform(0.05, 0.2, corners.shape)])
    kinds = random.integers(0, 2, len(objects))
    members = []
    for _ in range(random.integers(2, 5)):
        rows = random.integers(0, len(objects), len(objects)) if len(objects) else slice(0, 0)
        boxes = objects[rows] + random.uniform(-0.01, 0.01, objects[rows].shape)
        scores = random.uniform(0.01, 1, len(boxes))
        members.append(found(postprocessing, boxes.clip(0, 1), scores, kinds[rows]))
    return members


def test_nothing_is_fused_to_nothing(fusion, postprocessing) -> None:
    nothing = found(postprocessing, [], [], [])

    fused = fusion.fuse([nothing, nothing], IOU)

    assert [part.shape for part in fused] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("case", GOLDEN)
def test_is_what_the_authors_package_gives(fusion, postprocessing, case: dict[str, Any]) -> None:
    members = [found(postprocessing, *member) for member in case["members"]]

    fused = fusion.fuse(members, case["iou"])

    for part, expected in zip(fused, case["expected"], strict=True):
        np.testing.assert_allclose(part, np.array(expected).reshape(part.shape), atol=1e-5)


def test_is_what_the_paper_says(fusion, postprocessing) -> None:
    merged = 0
    for seed in range(100):
        members = random_members(postprocessing, seed)
        expected = reference(members, IOU)

        fused = fusion.fuse(members, IOU)

        assert len(fused.scores) == len(expected)
        for row, (score, kind, box) in enumerate(expected):
            np.testing.assert_allclose(fused.scores[row], score, atol=1e-5)
            np.testing.assert_allclose(fused.boxes_xyxy[row], box, atol=1e-5)
            assert fused.classes[row] == kind
        merged += sum(len(member.scores) for member in members) - len(expected)
    assert merged > 1000


def test_a_network_that_saw_nothing_halves_the_score(fusion, settings) -> None:
    members = [network((NETWORK_BOX, 0.9)), network((MOVED_BOX, 0.0))]

    alone = fusion.detect(members, SIZE, settings, "stretch", 0, IOU)
    lower = fusion.detect(members, SIZE, with_threshold(settings, 0.4), "stretch", 0, IOU)

    assert len(alone.scores) == 0
    np.testing.assert_allclose(lower.scores, [0.45], atol=1e-6)


def test_two_networks_meet_in_the_middle(fusion, settings) -> None:
    members = [network((NETWORK_BOX, 0.9)), network((MOVED_BOX, 0.6))]

    fused = fusion.detect(members, SIZE, settings, "stretch", 0, IOU)

    np.testing.assert_allclose(fused.scores, [0.75], atol=1e-6)
    # 200 wide, 100 high; weighted 3 to 2.
    np.testing.assert_allclose(fused.boxes_xyxy, [[41.6, 20, 81.6, 40]], atol=1e-4)


def test_a_threshold_moves_no_box_that_remains(fusion, settings) -> None:
    members = [network((NETWORK_BOX, 0.95)), network((MOVED_BOX, 0.4))]

    boxes = [
        fusion.detect(members, SIZE, with_threshold(settings, least), "stretch", 0, IOU).boxes_xyxy
        for least in (0.05, 0.6)
    ]

    assert len(boxes[0]) == 1
    np.testing.assert_array_equal(*boxes)


def test_fused_boxes_overlap_no_more_than_a_request_allows(fusion, settings) -> None:
    apart = [0.26, 0.2, 0.46, 0.4]  # IoU with the other 0.54: two objects, too near
    members = [network((NETWORK_BOX, 0.9), (NETWORK_BOX, 0.0)), network((apart, 0.8))]
    settings = with_threshold(settings, 0.1)

    assert len(fusion.detect(members, SIZE, settings, "stretch", 0, IOU).scores) == 1
    settings = type(settings)(0.1, 0.6, 100)
    assert len(fusion.detect(members, SIZE, settings, "stretch", 0, IOU).scores) == 2


def test_a_second_box_of_a_network_takes_no_score_from_the_first(fusion, settings) -> None:
    """IoU 0.57, which a network made for 0.6 leaves."""
    second = [0.2, 0.2, 0.4, 0.55]
    members = [network((NETWORK_BOX, 0.9), (second, 0.1)) for _ in range(2)]
    settings = type(settings)(0.05, 0.6, 100)

    fused = fusion.detect(members, SIZE, settings, "stretch", 0, IOU)

    np.testing.assert_allclose(fused.scores, [0.9], atol=1e-6)


def test_each_class_has_its_own_threshold(fusion, settings) -> None:
    members = [network((NETWORK_BOX, 0.8), ([0.6, 0.6, 0.9, 0.9], 0.6)) for _ in range(2)]
    members[0][1][1] = members[1][1][1] = 0, 0.6  # the second box is of the other class
    for thresholds, classes in (((0.7, 0.7), [0]), ((0.9, 0.5), [1]), ((0.7, 0.5), [0, 1])):
        by_class = type(settings)(0.99, 0.45, 100, thresholds)
        found = fusion.detect(members, SIZE, by_class, "stretch", 0, IOU)
        assert found.classes.tolist() == classes


def test_one_network_alone_is_not_changed(fusion, postprocessing, settings) -> None:
    member = network((NETWORK_BOX, 0.9), ([0.6, 0.6, 0.9, 0.9], 0.8))

    alone = fusion.detect([member], SIZE, settings, "stretch", 0.85, IOU)

    plain = postprocessing.detect(*member, SIZE, settings, "stretch", 0.85)
    assert len(plain.scores) == 2
    for one, other in zip(alone, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def with_threshold(settings, score_threshold: float) -> Any:
    return type(settings)(score_threshold, settings.iou_threshold, settings.max_detections)
