"""Whether figures have moved: two samples by Kolmogorov and Smirnov, many statistics by Benjamini
and Hochberg.

The test asks how likely so large a distance D is between two samples of one distribution. Both are
finite: of m values in the reference and n live ones, m n / (m + n) count (scipy.stats.ks_2samp's
own approximation for large samples). Bins hide a part of D, never add to it. Of the p-values of all
statistics scipy.stats.false_discovery_control makes adjusted ones: of what is called moved no more
than RATE is expected to be wrong, and where nothing has moved, that is the share of the windows in
which anything is called so.

What is independent is the photo, not the score: the cells of one photo share its stain, its lamp
and its lens. How much is not known, so the worst is assumed, that all scores of a photo are as good
as one. By Kish's design effect (Survey Sampling, 1965, section 8.2; Rao and Scott, JASA 76, 1981,
bring it to tests of counts) photos with b_i scores each then count as (sum b_i)^2 / sum b_i^2, no
more than there are photos.

In a large sample any trifle is significant, so what moved less than LEAST is let be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import NamedTuple

from serving.monitoring.histogram import Histogram, measure_distance
from serving.monitoring.statistic import Statistic

RATE = 0.01  # of windows in which nothing has changed: said to have moved all the same
LEAST = 0.1  # D: for a tenth of the values the other side of some line is a change worth a look
SEEN = 0.3  # D that no window may miss for want of images


class Sample(NamedTuple):
    """Values of one statistic, and how many independent ones they are worth."""

    values: Histogram
    size: float


@dataclass(frozen=True)
class Finding:
    """One statistic, live beside the reference.

    Attributes:
        distance: D, 0 to 1.
        p_value: adjusted, 0 to 1.
        moved: whether both say so.
    """

    statistic: Statistic
    live: Sample
    reference: Sample
    distance: float
    p_value: float
    moved: bool


def compare_samples(
    live: Mapping[Statistic, Sample], reference: Mapping[Statistic, Sample]
) -> list[Finding]:
    """What the statistics that both have say, what moved most first.

    Args:
        live, reference: whose histograms of a statistic have edges in common.
    """
    from scipy.stats import false_discovery_control  # takes a second, which other commands save

    found = [
        _compare(statistic, live[statistic], known)
        for statistic, known in reference.items()
        if statistic in live
    ]
    adjusted = false_discovery_control([each.p_value for each in found]) if found else []
    found = [
        replace(each, p_value=float(p), moved=bool(p <= RATE and each.distance >= LEAST))
        for each, p in zip(found, adjusted, strict=True)
    ]
    return sorted(found, key=lambda each: (not each.moved, -each.distance))


def _compare(statistic: Statistic, live: Sample, reference: Sample) -> Finding:
    """One statistic, its p-value not adjusted yet."""
    from scipy.stats import kstwo

    distance = measure_distance(live.values, reference.values)
    size = live.size * reference.size / (live.size + reference.size)
    p_value = float(kstwo.sf(distance, max(1, round(size))))
    return Finding(statistic, live, reference, distance, p_value, moved=False)


def count_needed(reference: float, statistics: int) -> int | None:
    """How many values must be there for a distance of SEEN to be called one, if it is the only one.

    Args:
        reference: how many values the reference is worth.
        statistics: how many are judged at once.

    Returns:
        None where the reference is too small for any number.
    """
    size = _count_pooled(statistics)
    return ceil(size * reference / (reference - size)) if reference > size else None


@cache
def _count_pooled(statistics: int) -> int:
    """The same of m n / (m + n)."""
    from scipy.stats import kstwo

    return next(n for n in range(1, 1000) if kstwo.isf(RATE / statistics, n) <= SEEN)


def count_independent(per_image: Histogram) -> float:
    """How many independent values the detections of some images are worth, see above."""
    sizes = per_image.whole_numbers()
    return float((per_image.counts @ sizes) ** 2 / max(per_image.counts @ sizes**2, 1))
