"""The figures that are compared: a version's reference, and what Prometheus counted live.

A reference is what training measured of its validation set with the served code. It stands in the
artifact's card.json and in releases.json:

    images                                how many were measured
    trained_on                            how many of them the network was trained on
    score_threshold, iou_threshold        of the detections
    score_thresholds                      of each class; left out: score_threshold for all
    statistics     image_brightness, ...  {"edges": [E], "counts": [E + 1]}
                   detection_score, ...   the same by class

Live each of these is a histogram in Prometheus, `ssd_` before its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.errors import DriftError, UntoldError
from serving.history import Record
from serving.monitoring.histogram import Histogram, from_buckets
from serving.monitoring.judgement import Sample, count_independent
from serving.monitoring.prometheus import Prometheus
from serving.monitoring.statistic import (
    BRIGHTNESS,
    DETECTION_STATISTICS,
    IMAGE_STATISTICS,
    PER_IMAGE,
    SCORE,
    Statistic,
)

# `increase` stretches what it saw between the first and the last of k scrapes to the whole window,
# by k / (k - 1): taken back here, for a sample must not be larger than it was.
INCREASE = (
    "sum by (le, label) (increase(ssd_{name}_bucket{{{labels}}}[{seconds}s])"
    " * (1 - 1 / count_over_time(ssd_{name}_bucket{{{labels}}}[{seconds}s])))"
)


@dataclass(frozen=True)
class Reference:
    """What a version met on its validation set.

    Attributes:
        images: how many.
        trained_on: how many of them the network was trained on.
        thresholds: score_threshold and iou_threshold, and score_thresholds where there are some.
        samples: what was measured.
    """

    images: int
    trained_on: int
    thresholds: dict[str, Any]
    samples: dict[Statistic, Sample]


def read_reference(record: Record, version: int) -> Reference:
    """The reference of a version.

    Raises:
        UntoldError: it has none.
        DriftError: it is damaged.
    """
    if version not in record.versions:
        raise UntoldError(
            f"version {version} has no reference: it was copied in by hand; `serving publish` "
            "takes one along"
        )
    entry = record.versions[version].get("reference")
    if entry is None:
        raise UntoldError(
            f"version {version} has no reference: its artifact is of before; export it again with "
            "`python -m training export`, and publish that"
        )
    try:
        return Reference(
            int(entry["images"]),
            int(entry.get("trained_on", 0)),
            {name: float(entry[name]) for name in ("score_threshold", "iou_threshold")}
            | (
                {"score_thresholds": by_class}
                if (by_class := entry.get("score_thresholds"))
                else {}
            ),
            make_samples(_parse_statistics(entry["statistics"])),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DriftError(
            f"the reference of version {version} in releases.json is damaged ({error!r}): publish "
            "its artifact again"
        ) from None


def _parse_statistics(entries: Mapping[str, Any]) -> dict[Statistic, Histogram]:
    found = {Statistic(name): _parse_histogram(entries[name]) for name in IMAGE_STATISTICS}
    for name in DETECTION_STATISTICS:
        for label, entry in entries[name].items():
            found[Statistic(name, label)] = _parse_histogram(entry)
    return found


def _parse_histogram(entry: Mapping[str, Any]) -> Histogram:
    edges, counts = (np.array(entry[name], float) for name in ("edges", "counts"))
    fits = 0 < len(edges) == len(counts) - 1
    if not fits or (np.diff(edges) <= 0).any() or (counts < 0).any():
        raise ValueError(f"{len(edges)} edges and {len(counts)} counts are no histogram")
    return Histogram(edges, counts)


def read_live(prometheus: Prometheus, labels: str, seconds: int) -> dict[Statistic, Sample]:
    """What was counted in the last seconds, by all servers together.

    Args:
        prometheus: who scraped them.
        labels: PromQL's matchers of their series.
        seconds: how far back.

    Raises:
        DriftError: Prometheus does not answer.
    """
    buckets: dict[Statistic, dict[float, float]] = {}
    for name in (*IMAGE_STATISTICS, *DETECTION_STATISTICS):
        expression = INCREASE.format(name=name, labels=labels, seconds=seconds)
        for each in prometheus.query(expression):
            statistic = Statistic(name, each.labels.get("label", ""))
            buckets.setdefault(statistic, {})[float(each.labels["le"])] = each.value
    return make_samples({name: from_buckets(found) for name, found in buckets.items()})


def check_scraped(prometheus: Prometheus, labels: str) -> None:
    """Prometheus has seen the servers.

    Raises:
        UntoldError: what it has seen instead.
        DriftError: it does not answer.
    """
    if prometheus.query(f"ssd_{BRIGHTNESS}_count{{{labels}}}"):
        return
    targets = prometheus.query("up")
    if not targets:
        raise UntoldError(
            f"Prometheus at {prometheus.url} scrapes nothing: start it with the servers' metrics "
            "among its targets, such as deploy/monitoring/prometheus.yml has them"
        )
    if not any(each.value for each in targets):
        raise UntoldError(
            f"Prometheus at {prometheus.url} reaches none of its {len(targets)} targets: do the "
            "servers run?"
        )
    raise UntoldError(
        f"Prometheus at {prometheus.url} has no ssd_{BRIGHTNESS}_count{{{labels}}}: it scrapes no "
        "server of this task, or one of a repository of before, which measures nothing"
    )


def make_samples(histograms: Mapping[Statistic, Histogram]) -> dict[Statistic, Sample]:
    """Histograms with how many independent values each is worth."""
    return {
        statistic: Sample(histogram, _count_values(statistic, histograms))
        for statistic, histogram in histograms.items()
    }


def _count_values(statistic: Statistic, histograms: Mapping[Statistic, Histogram]) -> float:
    if statistic.name == SCORE:
        per_image = histograms.get(Statistic(PER_IMAGE, statistic.label))
        return count_independent(per_image) if per_image else 0.0
    return float(int(histograms[statistic].total))  # Prometheus' counts have fractions
