"""A verdict in words, for people, and as JSON, for programs."""

import json
from datetime import timedelta
from typing import Any

from serving.monitoring.histogram import Histogram
from serving.monitoring.judgement import Finding
from serving.monitoring.statistic import PER_IMAGE
from serving.monitoring.verdict import Verdict


def format_words(verdict: Verdict) -> str:
    """A line for what was looked at, and one for each thing worth knowing."""
    lines = [f"{verdict.word}: {_describe_window(verdict)}"]
    lines += [f"  moved   {describe_finding(each)}" for each in verdict.moved]
    lines += [f"  untold  {each}" for each in verdict.doubts]
    lines += [f"  note    {each}" for each in verdict.notes]
    still = [each for each in verdict.findings if not each.moved]
    if still:
        lines.append(f"  same    {len(still)} statistics, the largest D {still[0].distance:.2f}")
    return "\n".join(lines)


def _describe_window(verdict: Verdict) -> str:
    if not verdict.version:
        return "nothing was compared"
    return (
        f"{verdict.images} images in {timedelta(seconds=verdict.seconds)}, beside the reference of "
        f"version {verdict.version}"
    )


def describe_finding(found: Finding) -> str:
    """What became of a statistic, how far by D, and how sure by p."""
    whole = found.statistic.name == PER_IMAGE
    before, now = (
        _describe_counts(each.values) if whole else _describe_values(each.values)
        for each in (found.reference, found.live)
    )
    return (
        f"{found.statistic}: {'mean' if whole else 'median'} {before} -> {now}, "
        f"{describe_distance(found)}"
    )


def describe_distance(found: Finding) -> str:
    """How far, and how sure."""
    p = "< 1e-99" if found.p_value < 1e-99 else f"= {found.p_value:.1g}"
    return f"D = {found.distance:.2f}, adjusted p {p}"


def _describe_counts(values: Histogram) -> str:
    return f"{values.mean_of_whole_numbers():.3g}"


def _describe_values(values: Histogram) -> str:
    low, median, high = (_describe_number(values.quantile(share)) for share in (0.1, 0.5, 0.9))
    return f"{median} (8 of 10 in {low} to {high})"


def _describe_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def format_json(verdict: Verdict) -> str:
    """All of it as one JSON document."""
    document = {
        "verdict": verdict.word,
        "version": verdict.version or None,
        "window_seconds": verdict.seconds,
        "images": verdict.images,
        "images_needed": verdict.needed or None,
        "doubts": verdict.doubts,
        "notes": verdict.notes,
        "statistics": [_to_dict(each) for each in verdict.findings],
    }
    return json.dumps(document, indent=2)


def _to_dict(found: Finding) -> dict[str, Any]:
    return {
        "statistic": found.statistic.name,
        "label": found.statistic.label,
        "moved": found.moved,
        "distance": found.distance,
        "p_value": found.p_value,
        "words": describe_finding(found),
        **{
            name: {
                "values": sample.size,
                "edges": sample.values.edges.tolist(),
                "counts": sample.values.counts.tolist(),
            }
            for name, sample in (("reference", found.reference), ("live", found.live))
        },
    }
