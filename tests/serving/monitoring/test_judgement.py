"""The test: scipy's own where it can be asked, and what differs from it on purpose."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from serving.monitoring.histogram import Histogram
from serving.monitoring.judgement import (
    LEAST,
    RATE,
    SEEN,
    Sample,
    compare_samples,
    count_independent,
    count_needed,
)
from serving.monitoring.statistic import Statistic

BRIGHTNESS = Statistic("image_brightness")
EDGES = np.arange(0.0, 256.0)


def sample(values: np.ndarray) -> Sample:
    counts = np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1)
    return Sample(Histogram(EDGES, counts.astype(float)), len(values))


def test_nothing_to_compare() -> None:
    one = {BRIGHTNESS: sample(np.arange(100))}
    assert compare_samples({}, one) == compare_samples(one, {}) == []


def test_p_value_is_scipys_for_large_samples() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 200, 300), rng.integers(10, 220, 250)
    expected = ks_2samp(one, other, method="asymp")
    (found,) = compare_samples({BRIGHTNESS: sample(one)}, {BRIGHTNESS: sample(other)})
    assert found.distance == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)


def test_many_statistics_make_a_p_value_larger() -> None:
    rng = np.random.default_rng(0)
    reference = {Statistic(f"s{n}"): sample(rng.integers(0, 200, 300)) for n in range(20)}
    moved = {BRIGHTNESS: sample(rng.integers(60, 260, 300))}
    live, reference = reference | moved, reference | {BRIGHTNESS: reference[Statistic("s0")]}
    (alone,) = compare_samples(moved, reference)
    first, *others = compare_samples(live, reference)
    assert first.statistic == BRIGHTNESS
    assert first.p_value == pytest.approx(21 * alone.p_value)
    assert {each.p_value for each in others} == {1.0}


def test_a_trifle_is_no_drift_however_sure() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 200, 100_000), rng.integers(10, 210, 100_000)
    (found,) = compare_samples({BRIGHTNESS: sample(other)}, {BRIGHTNESS: sample(one)})
    assert found.p_value < RATE / 1000
    assert found.distance < LEAST
    assert not found.moved


def test_scores_of_one_photo_are_worth_one() -> None:
    of_one = Histogram(np.arange(5.0), np.array([30.0, 0, 0, 0, 20, 0]))  # 30 photos without any
    assert count_independent(of_one) == pytest.approx(20)
    uneven = Histogram(np.arange(5.0), np.array([0.0, 10, 0, 0, 10, 0]))  # 10 of 1, 10 of 4
    assert count_independent(uneven) == pytest.approx(50**2 / 170)
    assert count_independent(Histogram(np.arange(5.0), np.zeros(6))) == 0


@pytest.mark.parametrize("reference", [58, 87, 1000])
def test_what_is_needed_is_what_it_takes_to_see_it(reference: int) -> None:
    needed = count_needed(reference, 11)
    assert needed is not None
    moved = {live: is_seen(live, reference) for live in (needed, needed * 3 // 4)}
    assert moved == {needed: True, needed * 3 // 4: False}


def is_seen(live: int, reference: int) -> bool:
    """Whether a distance of SEEN in one of eleven statistics is called a drift."""
    edges = np.array([0.0])
    same, away = Histogram(edges, np.array([5, 5])), Histogram(edges, np.array([2, 8]))
    assert SEEN == 0.3
    names = [Statistic(f"s{number}") for number in range(11)]
    found = compare_samples(
        {name: Sample(same, live) for name in names} | {names[0]: Sample(away, live)},
        {name: Sample(same, reference) for name in names},
    )
    return found[0].moved


def test_a_reference_can_be_too_small_for_any_number() -> None:
    assert count_needed(30, 11) is None
