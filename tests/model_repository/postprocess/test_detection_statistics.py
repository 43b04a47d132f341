from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

LABELS = ("RBC", "WBC")


@pytest.fixture
def module(load: Callable[[str, str], ModuleType]) -> Any:
    for sibling in ("metrics", "postprocessing"):
        load("postprocess", sibling)
    return load("postprocess", "detection_statistics")


@pytest.fixture
def statistics(module: Any) -> Any:
    return module.DetectionStatistics(LABELS)


@pytest.fixture
def found(module: Any) -> Callable[..., Any]:
    """found((0.9, 1), (0.6, 0)): detections of these scores and classes."""

    def make(*pairs: tuple[float, int]) -> Any:
        scores = np.array([score for score, _ in pairs], np.float32)
        classes = np.array([each for _, each in pairs], np.int32)
        return module.Detections(np.zeros((len(pairs), 4), np.float32), scores, classes)

    return make


def shown(statistics: Any, name: str) -> dict[str, dict[float, int]]:
    """By label: the largest value of each bin that is not empty, and its count."""
    return {
        each.labels["label"]: {
            edge: count
            for edge, count in zip([*each.values.edges, np.inf], each.values.counts, strict=True)
            if count
        }
        for each in statistics.measured()
        if each.name == name
    }


def totals(statistics: Any) -> dict[str, int]:
    return {
        each.labels["label"]: each.values.value
        for each in statistics.measured()
        if each.name == "ssd_detections"
    }


def test_edges_rise(module: Any) -> None:
    for edges in (module.SCORES, module.COUNTS):
        assert list(edges) == sorted(set(edges))
    assert 0 < module.SCORES[0] < module.SCORES[-1] < 1


def test_an_image_without_detections(statistics: Any, found: Callable[..., Any]) -> None:
    statistics.add([found()])

    assert shown(statistics, "ssd_detections_per_image") == {"RBC": {0: 1}, "WBC": {0: 1}}
    assert shown(statistics, "ssd_detection_score") == {"RBC": {}, "WBC": {}}
    assert totals(statistics) == {"RBC": 0, "WBC": 0}


def test_no_image_at_all(statistics: Any) -> None:
    statistics.add([])

    assert shown(statistics, "ssd_detections_per_image") == {"RBC": {}, "WBC": {}}


def test_detections_are_counted_by_class(statistics: Any, found: Callable[..., Any]) -> None:
    statistics.add([found((1.0, 0), (0.75, 0), (0.51, 1)), found((0.99, 1))])

    assert totals(statistics) == {"RBC": 2, "WBC": 2}
    assert shown(statistics, "ssd_detections_per_image") == {"RBC": {0: 1, 2: 1}, "WBC": {1: 2}}
    assert shown(statistics, "ssd_detection_score") == {
        "RBC": {0.75: 1, np.inf: 1},
        "WBC": {0.525: 1, np.inf: 1},
    }


def test_images_that_are_passed_over(statistics: Any, found: Callable[..., Any]) -> None:
    statistics.pass_over([found((0.9, 0)), found()])

    assert totals(statistics) == {"RBC": 0, "WBC": 0}
    assert shown(statistics, "ssd_detections_per_image") == {"RBC": {}, "WBC": {}}
    (unmeasured,) = (e for e in statistics.measured() if e.name == "ssd_unmeasured_images")
    assert unmeasured.values.value == 2


def test_the_rest_of_a_long_list_counts_as_one(module: Any, found: Callable[..., Any]) -> None:
    """Each class has 60 series, and as many lines in a record of releases."""
    labels = [f"class {index}" for index in range(1000)]
    statistics = module.DetectionStatistics(labels)
    statistics.add([found((0.9, 98), (0.9, 99), (0.9, 999))])

    by_label = totals(statistics)
    assert list(by_label) == [*labels[:99], module.OTHERS]
    assert by_label["class 98"] == 1
    assert by_label[module.OTHERS] == 2


def test_a_list_as_long_as_may_be_is_whole(module: Any) -> None:
    labels = [f"class {index}" for index in range(module.MOST_LABELS)]
    assert module.DetectionStatistics(labels).labels == labels
