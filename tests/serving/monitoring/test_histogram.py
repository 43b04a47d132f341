"""Histograms: what is read off them, with bins that are empty, uneven, or Prometheus' own."""

import numpy as np
import pytest

from serving.monitoring.histogram import Histogram, from_buckets, measure_distance

INF = float("inf")


def histogram(edges: list[float], counts: list[float]) -> Histogram:
    return Histogram(np.array(edges, float), np.array(counts, float))


def test_nothing_counted() -> None:
    empty = from_buckets({1.0: 0.0, 2.0: 0.0, INF: 0.0})
    assert empty.total == 0
    assert empty.share_below(empty.edges).tolist() == [0, 0]
    assert measure_distance(empty, empty) == 0


def test_prometheus_counts_from_below() -> None:
    found = from_buckets({INF: 7.0, 2.0: 6.0, 1.0: 4.0})
    assert found.edges.tolist() == [1, 2]
    assert found.counts.tolist() == [4, 2, 1]


def test_what_increase_makes_of_a_bucket_does_not_fall() -> None:
    found = from_buckets({1.0: 4.1, 2.0: 4.0, INF: 6.0})
    assert found.counts.tolist() == pytest.approx([4.1, 0, 1.9])


@pytest.mark.parametrize(("share", "value"), [(0.0, 10.0), (0.25, 15.0), (0.5, 20.0), (1.0, 30.0)])
def test_quantiles_within_bins(share: float, value: float) -> None:
    assert histogram([10, 20, 30, 40], [0, 2, 2, 0, 0]).quantile(share) == pytest.approx(value)


def test_quantile_past_the_last_edge_is_that_edge() -> None:
    assert histogram([10, 20], [0, 0, 5]).quantile(0.5) == 20


def test_mean_of_whole_numbers_is_exact_in_bins_of_one() -> None:
    counted = histogram([0, 1, 2, 3, 5, 8], [2, 1, 0, 1, 1, 0, 0])
    assert counted.whole_numbers().tolist() == [0, 1, 2, 3, 4.5, 7, 9]
    assert counted.mean_of_whole_numbers() == pytest.approx((0 + 0 + 1 + 3 + 4.5) / 5)


def test_distance_is_kolmogorovs() -> None:
    one, other = histogram([1, 2, 3], [4, 4, 2, 0]), histogram([1, 2, 3], [1, 1, 4, 4])
    assert measure_distance(one, other) == pytest.approx(0.6)  # 8 of 10 and 2 of 10 up to 2
    assert measure_distance(one, one) == 0


def test_distance_over_the_edges_that_both_have() -> None:
    one, finer = histogram([1, 3], [5, 5, 0]), histogram([1, 2, 3], [2, 3, 5, 0])
    assert one.common_edges(finer).tolist() == [1, 3]
    assert measure_distance(one, finer) == pytest.approx(0.3)
