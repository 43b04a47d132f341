"""What was measured, as a table and as parts of sentences."""

from collections.abc import Sequence

from serving.tuning.candidates import AS_IS
from serving.tuning.choice import choose_best
from serving.tuning.measurement import Level, Result

COLUMNS = ["instances", "threads", "preprocess", "batches"]
COLUMNS += ["at once", "photos/s", "p50 ms", "p99 ms", "MiB", ""]


def describe_result(result: Result, level: Level) -> str:
    """Settings and what they gave, as part of a sentence."""
    instances, threads, decoders, batches = result.words
    return (
        f"{instances} instances, threads {threads}, {decoders} of preprocess, batches {batches}: "
        f"{level.throughput:.1f} photos/s, p99 {level.p99:.1f} ms with {level.concurrency} at once"
    )


def format_table(results: Sequence[Sequence[Result]], latency: float) -> str:
    """A line for each candidate of each step, at the load that suits it best."""
    lines = [tuple(COLUMNS)]
    for step in results:
        best = choose_best(step, latency)
        lines += [_format_row(result, latency, result is best) for result in step] + [
            ("",) * len(COLUMNS)
        ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS) - 1)]
    padded = ([*map(str.rjust, line, widths), line[-1]] for line in lines[:-1])
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _format_row(result: Result, latency: float, is_best: bool) -> tuple[str, ...]:
    """One line of the table."""
    level = result.best(latency)
    words = result.words or ("-",) * 4
    note = "as it is" if result.candidate == AS_IS else ""
    if level is None:
        return (*words, *("-",) * 5, result.trouble or note)
    note += ", best of these" if note and is_best else "best of these" if is_best else ""
    note += f" ({level.failures} failed)" if level.failures else ""
    numbers = (level.throughput, level.p50, level.p99)
    shown = (str(level.concurrency), *(f"{n:.1f}" for n in numbers), f"{result.memory:.0f}")
    return (*words, *shown, note)
