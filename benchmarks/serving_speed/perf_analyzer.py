"""Triton's own load generator beside this project's: do they agree?"""

import base64
import csv
import json
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.contestants.served import Target
from benchmarks.contestants.slice import ContestantError
from benchmarks.measurement import figures
from benchmarks.serving_speed.bench import Bench, Case

WINDOWS = 3  # of perf_analyzer


def compare_generators(bench: Bench, ours: Target, case: Case, program: Path) -> dict[str, Any]:
    """The independent load generator beside the project's own, in turns, at the same concurrency.

    Raises:
        ContestantError: the program does not run.
    """
    data = bench.folder.resolve() / "perf_analyzer.json"
    data.write_text(json.dumps({"data": [entry(photo.read_bytes()) for photo in bench.photos]}))
    concurrency = max(bench.settings.concurrencies)
    own, theirs = [], []
    with bench.served(ours, case) as server:
        for _ in tqdm(range(5), desc=f"perf_analyzer, {case.name}", disable=None):
            own.append(server.run(concurrency, float(WINDOWS)))
            theirs.append(_run_program(program, server.address, data, concurrency))
    ratios = [them["throughput"] / us.throughput for us, them in zip(own, theirs, strict=True)]
    nets = [
        figures.net(them["throughput"], them["cpu"], them["seconds"], bench.cores)
        / figures.net(us.throughput, us.generator_cpu, us.seconds, bench.cores)
        for us, them in zip(own, theirs, strict=True)
    ]
    return {
        "case": case.name,
        "concurrency": concurrency,
        "throughput": figures.spread([each.throughput for each in own]),
        "perf_analyzer": figures.spread([each["throughput"] for each in theirs]),
        "ratio": figures.spread(ratios),
        "ratio_net": figures.spread(nets),
        "p99_ms": figures.spread([figures.percentile(x.latencies_ms, 0.99) for x in own]),
        "perf_analyzer_p99_ms": figures.spread([each["p99_ms"] for each in theirs]),
    }


def entry(photo: bytes) -> dict[str, Any]:
    """A photo as perf_analyzer wants BYTES: base64 of a 4-byte length and the content."""
    content = base64.b64encode(struct.pack("<I", len(photo)) + photo).decode()
    return {"image": {"content": {"b64": content}, "shape": [1]}}


def _run_program(program: Path, address: str, data: Path, concurrency: int) -> dict[str, float]:
    """Some windows of a second each, their mean."""
    table = data.with_suffix(".csv")
    command = [
        *(str(program), "-m", "ensemble", "-u", address, "-i", "grpc"),
        *("--input-data", str(data), "--concurrency-range", str(concurrency)),
        *("--measurement-interval", "1000", "--max-trials", str(WINDOWS)),
        *("--stability-percentage", "999", "-f", str(table)),
    ]
    used, began = children(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=_with_libraries(program))
    if done.returncode:
        raise ContestantError(f"perf_analyzer: {(done.stdout + done.stderr)[-500:]}")
    (row,) = csv.DictReader(table.read_text().splitlines())
    return {
        "throughput": float(row["Inferences/Second"]),
        "p99_ms": float(row["p99 latency"]) / 1000,
        "cpu": children() - used,
        "seconds": time.perf_counter() - began,
    }


def children() -> float:
    """CPU seconds of the child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _with_libraries(program: Path) -> dict[str, str]:
    """The environment in which it finds what docs/serving.md links for it."""
    packages = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    folders = [*program.resolve().parents[:4], packages / "nvidia_pytriton.libs"]
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    return os.environ | {
        "LD_LIBRARY_PATH": ":".join([*map(str, folders), *filter(None, [inherited])])
    }
