"""Histograms as Prometheus and an artifact's card hold them, and what can be read off them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Histogram:
    """How many values lie in each bin.

    Attributes:
        edges: float64 [E], ascending; bin i holds what is above edge i - 1, up to edge i.
        counts: float64 [E + 1], the last one of what is above the last edge; fractions may be.
    """

    edges: np.ndarray
    counts: np.ndarray

    @property
    def total(self) -> float:
        """How many values."""
        return float(self.counts.sum())

    def common_edges(self, other: "Histogram") -> np.ndarray:
        """The edges that both have, ascending."""
        return np.intersect1d(self.edges, other.edges)

    def share_below(self, edges: np.ndarray) -> np.ndarray:
        """The share of the values up to each of some of its edges, 0 to 1; 0 if there are none."""
        reached = np.cumsum(self.counts)[np.searchsorted(self.edges, edges)]
        return np.asarray(reached / max(self.total, np.finfo(float).tiny))

    def quantile(self, share: float) -> float:
        """The value that a share of all lie below, spread evenly within its bin."""
        reached = np.concatenate([[0.0], np.cumsum(self.counts)])
        ends = np.concatenate([self.edges[:1], self.edges, self.edges[-1:]])
        first, last = np.flatnonzero(self.counts)[[0, -1]]  # what is empty at the ends has no say
        inside = slice(int(first), int(last) + 2)
        return float(np.interp(share * self.total, reached[inside], ends[inside]))

    def whole_numbers(self) -> np.ndarray:
        """What the values of each bin are on average, [E + 1], if they are counted from 0."""
        above = np.concatenate([self.edges, [self.edges[-1] + 1]])
        below = np.concatenate([[-1], self.edges])
        return np.asarray((below + 1 + above) / 2)

    def mean_of_whole_numbers(self) -> float:
        """The mean, if the values are counted from 0."""
        return float(self.counts @ self.whole_numbers() / self.total)


def from_buckets(buckets: dict[float, float]) -> Histogram:
    """The histogram of Prometheus' buckets: how many values lie below each edge, +Inf among them.

    What `increase` extrapolates for each bucket by itself may fall a little from one to the next;
    as in Prometheus' own histogram_quantile it is not let fall.
    """
    edges = sorted(buckets)
    reached = np.maximum.accumulate([buckets[edge] for edge in edges])
    return Histogram(np.array(edges[:-1]), np.diff(reached, prepend=0.0))


def measure_distance(one: Histogram, other: Histogram) -> float:
    """Kolmogorov and Smirnov's D: the largest difference of the shares below any edge, 0 to 1.

    Between edges it may be larger, so that what is said of it errs to the side of no difference.

    Args:
        one, other: with one edge in common, at least.
    """
    common = one.common_edges(other)
    return float(np.abs(one.share_below(common) - other.share_below(common)).max())
