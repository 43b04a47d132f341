"""The bare pipeline as a contestant: the bound, no server."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Self

import psutil

from benchmarks.contestants import processes
from benchmarks.contestants.slice import Slice
from benchmarks.contestants.worker import Worker
from serving.server.tritonserver import KEPT_MEMORY


class Bare:
    """The bare pipeline: so many worker processes, each with so many threads an inference.

    Args:
        network: the ONNX file.
        photos: what it detects in.
        workers, threads: how many.
        documented: decoding and options as in tutorials.
    """

    name = "bare"

    def __init__(
        self,
        network: Path,
        photos: Sequence[Path],
        workers: int,
        threads: int = 1,
        documented: bool = False,
    ) -> None:
        setup = {
            "network": str(network),
            "photos": [str(photo) for photo in photos],
            "threads": threads,
            "documented": documented,
        }
        environment = {} if documented else KEPT_MEMORY  # as the served one has it
        self._workers = [
            Worker("benchmarks.contestants.bare_worker", setup, environment) for _ in range(workers)
        ]
        self.run(seconds=0.5)  # returns once all of them are set up

    def run(self, concurrency: int = 0, seconds: float = 1.0, ramp: float = 0.1) -> Slice:
        """All workers at once; the concurrency is how many they are."""
        began = time.perf_counter()
        for worker in self._workers:
            worker.send({"seconds": seconds, "ramp": ramp})
        answers = [worker.receive() for worker in self._workers]
        return Slice(
            throughput=sum(answer["completed"] / answer["seconds"] for answer in answers),
            latencies_ms=[ms for answer in answers for ms in answer["latencies_ms"]],
            generator_cpu=0.0,
            seconds=time.perf_counter() - began,
            server_cpu={"worker": sum(answer["cpu"] for answer in answers)},
            total=sum(answer["total"] for answer in answers),
            verdicts={"OK": sum(answer["completed"] for answer in answers)},
            all_ms=fmean(ms for answer in answers for ms in answer["latencies_ms"]),
            steps_ms={
                step: fmean(answer["steps_ms"][step] for answer in answers)
                for step in answers[0]["steps_ms"]
            },
        )

    def memory(self) -> dict[str, dict[str, float]]:
        """By role, in MiB."""
        return processes.memory(psutil.Process(worker.pid) for worker in self._workers)

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
