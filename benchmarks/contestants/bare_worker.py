"""The bound: one worker process of the bare pipeline, a photo after the other, no server.

As a worker (benchmarks/contestants/worker.py): the first line names network, photos and threads,
each further one is {"seconds": s, "ramp": r} and answered with what `measure_pipeline` returns.
"""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.contestants.pipeline import Documented, Pipeline
from benchmarks.contestants.worker import serve_commands

STEPS = ("preprocess", "ssd", "postprocess")
clock = time.perf_counter


def measure_pipeline(
    pipeline: Pipeline, photos: Iterator[bytes], seconds: float, ramp: float
) -> dict[str, Any]:
    """Detect in one photo after the other for `ramp` seconds uncounted, then `seconds` counted.

    Returns:
        completed, the counted seconds (which end with a photo), latencies in ms, the mean ms of
        each step, CPU seconds and photos of the whole call.
    """
    cpu = time.process_time()
    start = clock() + ramp
    total = 0
    while clock() < start:
        pipeline.detect(next(photos))
        total += 1
    times = [[clock()] * 4]
    while times[-1][3] < times[0][3] + seconds:
        times.append(timed(pipeline, next(photos)))
    began, ended = times[0][3], times[-1][3]
    latencies = [1000 * (each[3] - each[0]) for each in times[1:]]
    return {
        "completed": len(latencies),
        "seconds": ended - began,
        "latencies_ms": latencies,
        "steps_ms": {
            step: 1000 * statistics.fmean(each[at + 1] - each[at] for each in times[1:])
            for at, step in enumerate(STEPS)
        },
        "cpu": time.process_time() - cpu,
        "total": total + len(latencies),
    }


def timed(pipeline: Pipeline, photo: bytes) -> list[float]:
    """Detect, and look at the clock before, between and after the three steps."""
    times = [clock()]
    images, sizes = pipeline.preprocess(photo)
    times.append(clock())
    boxes, scores = pipeline.infer(images)
    times.append(clock())
    pipeline.postprocess(boxes, scores, sizes)
    return [*times, clock()]


def _make_detector(setup: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Open the network and read the photos."""
    network = Path(setup["network"])
    documented = setup.get("documented", False)
    pipeline = Documented(network) if documented else Pipeline(network, setup.get("threads", 1))
    photos = [Path(path).read_bytes() for path in setup["photos"]]
    for photo in photos[:5]:
        pipeline.detect(photo)
    turn = itertools.cycle(photos)
    gc.disable()  # nothing here makes cycles; a collection would be noise
    return lambda command: measure_pipeline(
        pipeline, turn, command["seconds"], command.get("ramp", 0.1)
    )


if __name__ == "__main__":
    serve_commands(_make_detector)
