"""Slices of which only the throughput matters."""

from benchmarks.contestants.slice import Slice


def slice_of(throughput: float, seconds: float = 1.0, verdict: str = "OK") -> Slice:
    return Slice(
        throughput=throughput,
        latencies_ms=[10.0, 20.0],
        generator_cpu=0.1,
        seconds=seconds,
        server_cpu={"server": 1.0},
        total=100,
        verdicts={verdict: 100},
        all_ms=15.0,
        lateness_ms=[0.1],
    )
