"""Arithmetic of the benchmark: percentiles, ratios of neighbours, medians with their spread.

And what is done with its figures: they are printed, and written where that is wanted.
"""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all values do not exceed; NaN for none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of measurements of one thing."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return {"median": math.nan, "q1": math.nan, "q3": math.nan, "count": 0}
    q1, _, q3 = (
        statistics.quantiles(finite, n=4, method="inclusive") if len(finite) > 1 else finite * 3
    )
    return {"median": statistics.median(finite), "q1": q1, "q3": q3, "count": len(finite)}


def ratio(value: float, before: float, after: float) -> float:
    """A measurement beside the mean of its two neighbours: what drifts evenly cancels out."""
    return 2 * value / (before + after)


def net(gross: float, generator_cpu: float, seconds: float, cores: int) -> float:
    """A throughput (or a ratio of it) with the load generator's CPU taken out.

    The server had what the generator left of the cores: cores * seconds - generator_cpu. With all
    of it, it would have done that much more.
    """
    return gross * cores * seconds / (cores * seconds - generator_cpu)


def latency(values: Sequence[float]) -> dict[str, float]:
    """Mean, median and tail of latencies, in their own unit."""
    mean = statistics.fmean(values) if values else math.nan
    return {
        "mean": mean,
        "p50": percentile(values, 0.5),
        "p90": percentile(values, 0.9),
        "p99": percentile(values, 0.99),
        "count": len(values),
    }


def show_figures(found: dict[str, Any], output: Path | None) -> None:
    """Print figures as JSON, and write them to a file if one is given."""
    text = json.dumps(found, indent=1)
    print(text)
    if output:
        output.write_text(text + "\n")
