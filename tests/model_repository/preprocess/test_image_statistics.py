from collections.abc import Callable
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

SIDE = 300


@pytest.fixture
def module(load: Callable[[str, str], ModuleType]) -> Any:
    for sibling in ("image_header", "metrics"):
        load("preprocess", sibling)
    return load("preprocess", "image_statistics")


@pytest.fixture
def statistics(module: Any) -> Any:
    return module.ImageStatistics()


def counted(statistics: Any) -> dict[str, float]:
    """The upper edge of the one value that each histogram holds."""
    edges = {}
    for name, histogram in statistics.histograms.items():
        assert sum(histogram.counts) == 1
        edges[name] = [*histogram.edges, np.inf][histogram.counts.index(1)]
    return edges


def gray(level: int) -> np.ndarray:
    return np.full((1, SIDE, SIDE, 3), level, np.uint8)


def test_edges_rise(module: Any) -> None:
    assert len(module.EDGES) == 5
    for edges in module.EDGES.values():
        assert list(edges) == sorted(set(edges))


def test_a_black_photo(statistics: Any) -> None:
    statistics.add([b"x" * 1000], gray(0), np.array([[480, 640]]))

    assert counted(statistics) == {
        "image_width_pixels": 640,
        "image_height_pixels": 480,
        "image_bytes": 1000,
        "image_brightness": 4,
        "image_sharpness": 1,
    }
    assert statistics.histograms["image_sharpness"].sum == 0


def test_a_huge_white_photo(statistics: Any) -> None:
    statistics.add([b"x" * 10**8], gray(255), np.array([[1, 10**6]]))

    assert counted(statistics) == {
        "image_width_pixels": np.inf,
        "image_height_pixels": 100,
        "image_bytes": np.inf,
        "image_brightness": np.inf,
        "image_sharpness": 1,
    }


def test_each_photo_of_a_request_counts(statistics: Any) -> None:
    images = np.concatenate([gray(10), gray(200)])
    statistics.add([b"x", b"xx"], images, np.array([[100, 100], [200, 200]]))

    assert statistics.histograms["image_bytes"].sum == 3
    assert statistics.histograms["image_brightness"].sum == 210
    assert sum(statistics.histograms["image_brightness"].counts) == 2


@pytest.mark.parametrize(
    ("side", "begin", "end"), [(1, 0, 1), (3, 0, 3), (4, 1, 3), (300, 75, 225)]
)
def test_sharpness_is_the_variance_of_the_laplacian_in_the_middle(
    module: Any, side: int, begin: int, end: int
) -> None:
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)

    brightness, sharpness = module.measure_look(image)

    luma = cv2.cvtColor(image[begin:end, begin:end], cv2.COLOR_RGB2GRAY)
    assert brightness == pytest.approx(luma.mean())
    assert sharpness == pytest.approx(cv2.Laplacian(luma, cv2.CV_64F).var(), abs=1e-6)


def test_blur_lowers_sharpness(module: Any, picture: np.ndarray) -> None:
    noisy = cv2.add(picture, np.random.default_rng(0).integers(0, 30, picture.shape, np.uint8))
    sharp, blurred = (
        module.measure_look(each)[1] for each in (noisy, cv2.GaussianBlur(noisy, (0, 0), 1))
    )
    assert blurred < sharp / 4


def test_every_refused_file_has_a_reason(
    module: Any, load: Callable[[str, str], ModuleType], hostile_files: dict[str, bytes]
) -> None:
    preprocessing: Any = load("preprocess", "preprocessing")
    reasons = {}
    for name, file in {"nothing": b"", **hostile_files}.items():
        with pytest.raises(preprocessing.ImageError) as caught:
            preprocessing.preprocess([file], SIDE, SIDE, 64_000_000)
        reasons[name] = caught.value.reason

    assert set(reasons.values()) == set(module.REASONS)
    assert reasons["nothing"] == "empty"
    assert reasons["text"] == "no_image"
    assert reasons["GIF"] == "other_format"
    assert reasons["PNG that claims 400 megapixels"] == "too_large"
    assert reasons["PNG wider than any"] == "too_large"
    assert reasons["JPEG signature"] == "damaged"


def test_reasons_are_counted_apart(statistics: Any, module: Any) -> None:
    statistics.reject("damaged")
    statistics.reject("damaged")

    shown = {
        each.labels["reason"]: each.values.value
        for each in statistics.measured()
        if each.name == "ssd_rejected_images"
    }
    assert shown == dict.fromkeys(module.REASONS, 0) | {"damaged": 2}
