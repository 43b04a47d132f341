"""What came of some seconds of load on a contestant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Expected = Sequence[tuple[int, float]]  # of each photo: detections, sum of their scores


class ContestantError(RuntimeError):
    """A contestant did not start, or answers wrongly."""


@dataclass(frozen=True)
class Slice:
    """What came of some seconds of load.

    throughput: photos a second.
    latencies_ms: of each photo.
    generator_cpu, seconds: CPU seconds of the load generator, in so many seconds by the clock.
    server_cpu: CPU seconds by role.
    total: photos in all that time, counted or not.
    verdicts: how many requests came to which end.
    """

    throughput: float
    latencies_ms: Sequence[float]
    generator_cpu: float
    seconds: float
    server_cpu: Mapping[str, float]
    total: int
    verdicts: Mapping[str, int]
    all_ms: float  # mean latency of all of them
    lateness_ms: Sequence[float] = ()
    sent: float = 0.0  # requests a second of an open loop, as its times were drawn
    steps_ms: Mapping[str, float] = field(default_factory=dict)  # of the bare pipeline
