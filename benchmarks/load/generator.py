"""The load generator: one process, cheap because it shares the cores it loads.

It sends photos' requests, which were serialised before. As a worker
(benchmarks/contestants/worker.py): the first line describes the target, each
further one is {"concurrency": c, "seconds": s, "ramp": r}, or with "requests": n instead of
seconds, or {"rate": photos a second, "seconds": s, "poisson": true}.
"""

import gc
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants.worker import serve_commands
from benchmarks.load.examiner import SAMPLE, Examiner, read_json, read_triton
from benchmarks.load.http1 import Http, http_request
from benchmarks.load.http2 import Http2
from benchmarks.load.loops import arrivals, closed_loop, open_loop
from benchmarks.load.transport import Transport
from serving.tuning.load_generator import METHOD, serialise_request


def _make_generator(setup: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A generator for a target.

    Args:
        setup: protocol (grpc or http), address, photos (paths), expected (see Examiner); for gRPC
            model, tensor and metadata; for HTTP path, content_type, field.
    """
    photos = [Path(path).read_bytes() for path in setup["photos"]]
    transport = _transport_of(setup, photos)
    read = read_triton if setup["protocol"] == "grpc" else read_json
    examiner = Examiner(read, setup.get("expected", []))
    turn = itertools.cycle(range(len(photos)))
    seeds = itertools.count()
    gc.freeze()
    gc.disable()

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        gc.collect()
        examiner.every = command.get("sample", SAMPLE)
        if "rate" in command:
            times = arrivals(
                command["rate"], command["seconds"], command.get("poisson", True), next(seeds)
            )
            return open_loop(transport, turn, examiner.verdict, times)
        part = itertools.islice(turn, command["requests"]) if "requests" in command else turn
        return closed_loop(
            transport,
            part,
            examiner.verdict,
            command["concurrency"],
            command.get("seconds", math.inf),
            command.get("ramp", 0.0 if "requests" in command else 0.2),
        )

    return answer


def _transport_of(setup: dict[str, Any], photos: Sequence[bytes]) -> Transport:
    """The transport that the setup names."""
    if setup["protocol"] == "grpc":
        bodies = [serialise_request(photo, setup["model"], setup["tensor"]) for photo in photos]
        return Http2(setup["address"], METHOD, bodies, setup.get("metadata", {}))
    host, port = setup["address"].split(":")
    content_type, field = setup.get("content_type", "image/jpeg"), setup.get("field", "")
    requests = [http_request(photo, setup["path"], content_type, field) for photo in photos]
    return Http(host, int(port), requests)


if __name__ == "__main__":
    serve_commands(_make_generator)
