"""Turn-taking: a slice of a reference stands before and after each slice of what is measured.

Machines drift, so nothing is compared that was not measured in turns.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from benchmarks.contestants.slice import Slice
from benchmarks.measurement import figures


class Run(NamedTuple):
    """A contestant at one concurrency, to be measured in turns with others."""

    label: str
    run: Callable[[], Slice]


class Turn(NamedTuple):
    """One slice and its neighbours."""

    slice: Slice
    before: Slice
    after: Slice

    @property
    def ratio(self) -> float:
        """Throughput beside the mean of the neighbours'."""
        return figures.ratio(self.slice.throughput, self.before.throughput, self.after.throughput)


def in_turns(
    reference: Callable[[], Slice], runs: Sequence[Run], slices: int, limit: float, title: str
) -> dict[str, list[Turn]]:
    """Measure all runs in turns, a slice of the reference between any two.

    Args:
        reference: what the others are compared with.
        runs: what is measured.
        slices: turns of each.
        limit: seconds after which a slice does not count.
        title: of the progress bar.
    """
    turns: dict[str, list[Turn]] = {run.label: [] for run in runs}
    before = reference()
    for _ in tqdm(range(slices), desc=title, disable=None):
        for run in runs:
            middle = run.run()
            after = reference()
            if max(each.seconds for each in (before, middle, after)) < limit:
                turns[run.label].append(Turn(middle, before, after))
            before = after
    return turns


def summary(turns: Sequence[Turn], cores: int) -> dict[str, Any]:
    """What the turns of one run say together."""
    slices = [turn.slice for turn in turns]
    total = max(1, sum(each.total for each in slices))
    nets = [
        figures.net(turn.ratio, turn.slice.generator_cpu, turn.slice.seconds, cores)
        for turn in turns
    ]
    roles = dict.fromkeys(role for each in slices for role in each.server_cpu)
    verdicts = dict.fromkeys(verdict for each in slices for verdict in each.verdicts)
    return {
        "of_bare": figures.spread([turn.ratio for turn in turns]),
        "of_bare_net": figures.spread(nets),
        "throughput": figures.spread([each.throughput for each in slices]),
        "latency_ms": figures.latency([ms for each in slices for ms in each.latencies_ms]),
        "p99_ms": figures.spread([figures.percentile(s.latencies_ms, 0.99) for s in slices]),
        "cpu_ms": {
            role: 1000 * sum(each.server_cpu.get(role, 0.0) for each in slices) / total
            for role in roles
        },
        "generator_ms": 1000 * sum(each.generator_cpu for each in slices) / total,
        "verdicts": {v: sum(each.verdicts.get(v, 0) for each in slices) for v in verdicts},
    }


def above(turns: Sequence[Turn], bare: Sequence[Turn]) -> list[float]:
    """By how many ms a photo takes longer than in the bare pipeline, round by round."""
    return [
        statistics.fmean(ours.slice.latencies_ms) - statistics.fmean(theirs.slice.latencies_ms)
        for ours, theirs in zip(turns, bare, strict=False)
    ]
