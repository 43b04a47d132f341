"""Which of several measured candidates is the best, by more than noise."""

from collections.abc import Sequence
from statistics import median

from serving.tuning.measurement import Level, Result

MARGIN = 0.03  # of the throughput; less is noise


def choose_best(results: Sequence[Result], latency: float) -> Result:
    """The best; of those that do not differ by more than noise the first."""
    best = results[0]
    for result in results[1:]:
        if _is_better(result.best(latency), best.best(latency), latency):
            best = result
    return best


def measure_unrest(results: Sequence[Sequence[Result]]) -> float:
    """By how much the throughput of the same settings differs between rounds, as a rule."""
    spreads = []
    for samples in (each for step in results for one in step for each in one.samples.values()):
        counts = [len(sample.latencies) for sample in samples]
        spreads.append((max(counts) - min(counts)) / max(1, max(counts)))
    return median(spreads) if spreads else 0.0


def _is_better(new: Level | None, old: Level | None, latency: float) -> bool:
    """Whether one is better than another by more than noise."""
    if new is None or old is None:
        return new is not None
    if new.meets(latency) != old.meets(latency):
        return new.meets(latency)
    if new.meets(latency):
        return new.throughput > old.throughput * (1 + MARGIN)
    return new.p99 < old.p99 * (1 - MARGIN)
