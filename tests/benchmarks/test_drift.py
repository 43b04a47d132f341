"""How often drift is cried where there is none, and with how many images where there is."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.drift import (
    NETWORK,
    Change,
    Population,
    encode_photos,
    judge_window,
    measure_halves,
    measure_population,
    measure_unchanged,
    render_photos,
    stained,
)
from serving.monitoring.judgement import RATE, count_needed
from serving.monitoring.statistic import SCORE
from serving.monitoring.verdict import MOVED
from training.network.onnx_network import OnnxNetwork, load_onnx

pytestmark = pytest.mark.slow

REFERENCE = 87  # images, as many as the shipped network's


@pytest.fixture(scope="module")
def network() -> OnnxNetwork:
    return load_onnx(NETWORK)


@pytest.fixture(scope="module")
def usual(network: OnnxNetwork) -> Population:
    """Smears as they are always drawn, each measured by itself."""
    return measure_population(network, encode_photos(render_photos(120, seed=0)))


def test_scores_of_a_photo_go_together(usual: Population) -> None:
    """Else the windows below would be no test."""
    whole = usual.take(np.arange(usual.size))
    (red,) = (each for name, each in whole.items() if name == (SCORE, "RBC"))
    assert red.values.total > 5 * red.size


def test_a_thousand_windows_of_unchanged_photos(usual: Population) -> None:
    assert measure_unchanged(usual, REFERENCE, windows=1000) <= RATE * 1000


def test_halves_of_real_photos(network: OnnxNetwork, test_data: Path) -> None:
    photos = sorted((test_data / "data/bccd/JPEGImages").glob("*.jpg"))
    real = measure_population(network, [path.read_bytes() for path in photos])
    assert (count_needed(real.size // 2, real.statistics) or real.size) < real.size // 2
    assert measure_halves(real, splits=200)["alarms"] <= RATE * 200


def blur(photo: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(photo, (0, 0), 2)


def expose_less(photo: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(photo, alpha=0.8)


@pytest.mark.parametrize(
    ("change", "statistic"), [(blur, "sharpness"), (expose_less, "brightness")]
)
def test_other_photos_of_the_same_cells(
    change: Change, statistic: str, network: OnnxNetwork, usual: Population
) -> None:
    changed = measure_population(network, encode_photos(render_photos(40, seed=1), change))
    assert statistic in told_of_all(usual, changed)


def test_another_stain(network: OnnxNetwork, usual: Population) -> None:
    with stained(1.6):
        files = encode_photos(render_photos(40, seed=1))
    assert "brightness" in told_of_all(usual, measure_population(network, files))


def told_of_all(usual: Population, changed: Population) -> set[str]:
    """What has moved in each of 20 windows of the fewest images that are judged."""
    rng = np.random.default_rng(0)
    needed = count_needed(REFERENCE, usual.statistics)
    assert needed == 78
    verdicts = [
        judge_window(changed.draw(rng, needed), usual.draw(rng, REFERENCE)) for _ in range(20)
    ]
    assert {each.word for each in verdicts} == {MOVED}
    return set.intersection(*({str(one.statistic) for one in each.moved} for each in verdicts))
