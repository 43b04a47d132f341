"""Where the time of a request goes: each step of the ensemble, alone and at saturation.

    python -m benchmarks.serving_steps --photos samples

Triton counts for each model how long requests wait, and how long their input, the inference and
their output take. Beside that: the same steps in the bare pipeline, what the client sees, and the
CPU that each process spends on a photo. In turns, so that a machine's drift hits all alike.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.bare import Bare
from benchmarks.contestants.ensemble import ensemble, newest_network, repository_with
from benchmarks.contestants.served import Served
from benchmarks.contestants.slice import ContestantError, Slice
from benchmarks.measurement import machine
from benchmarks.measurement.accuracy import expected
from benchmarks.measurement.photos import find_photos
from benchmarks.measurement.triton_statistics import PARTS, a_request, difference, read_statistics

STALL = 5.0  # times as long as planned: such a turn does not count
STEPS = ("preprocess", "ssd", "postprocess")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Account for the time of requests to the embedded server, step by step."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    repository: Path = ROOT / "model_repository"
    """Model repository."""
    network: Path | None = None
    """ONNX file to serve instead of the repository's."""
    concurrencies: tuple[int, ...] = (1, 8)
    """Requests under way at once."""
    slices: int = 10
    """Turns of each."""
    seconds: float = 1.0
    """Of each turn."""
    triton: tuple[str, ...] = ()
    """Further arguments for tritonserver."""
    output: Path | None = None
    """JSON file to write the figures to."""


def main(settings: Settings) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="serving-steps-") as folder:
        result = _measure_steps(settings, Path(folder))
    if settings.output:
        settings.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def _measure_steps(settings: Settings, folder: Path) -> dict[str, Any]:
    """The account of each concurrency."""
    photos = find_photos(settings.photos)
    network = settings.network or newest_network(settings.repository)
    cores = int(machine.usable_cores())
    options = ["--", *settings.triton] if settings.triton else []
    accounts = {}
    with repository_with(network, settings.repository) as repository:
        target = ensemble(repository, options=options)
        with (
            Served(target, photos, expected(network, photos), folder / "log") as server,
            Bare(network, photos, workers=1) as alone,
            Bare(network, photos, workers=cores) as all_cores,
        ):
            server.run(max(settings.concurrencies), 2.0)
            for concurrency in settings.concurrencies:
                bare = alone if concurrency == 1 else all_cores
                accounts[str(concurrency)] = account(settings, server, bare, concurrency)
    return {"machine": machine.describe_machine(), "photos": len(photos), "concurrency": accounts}


def account(settings: Settings, server: Served, bare: Bare, concurrency: int) -> dict[str, Any]:
    """Some turns at one concurrency, each beside one of the bare pipeline."""
    ours, theirs, steps = [], [], []
    for _ in tqdm(range(settings.slices), desc=f"concurrency {concurrency}", disable=None):
        beside = bare.run(seconds=settings.seconds)
        before = read_statistics(server.address)
        turn = server.run(concurrency, settings.seconds, ramp=0.2)
        counts = difference(before, read_statistics(server.address))
        if max(beside.seconds, turn.seconds) > STALL * settings.seconds:
            continue  # the whole machine stood still, as virtual ones do; a mean would show it
        theirs.append(beside)
        ours.append(turn)
        steps.append(counts)
    if not ours:
        raise ContestantError("the machine stood still in every turn")
    return {
        "triton_us": {model: a_request([step[model] for step in steps]) for model in steps[0]},
        "bare_us": {step: mean(1000 * each.steps_ms[step] for each in theirs) for step in STEPS},
        "client_us": sum(1000 * s.all_ms * s.total for s in ours) / sum(s.total for s in ours),
        "bare_client_us": mean(1000 * each.all_ms for each in theirs),
        "throughput": mean(each.throughput for each in ours),
        "bare_throughput": mean(each.throughput for each in theirs),
        "cpu_ms": _per_photo(ours),
        "generator_ms": 1000 * sum(s.generator_cpu for s in ours) / sum(s.total for s in ours),
        "bare_cpu_ms": _per_photo(theirs)["worker"],
    }


def mean(values: Iterable[float]) -> float:
    """Of the turns: means, unlike medians, add up to the mean of the whole."""
    return statistics.fmean(values)


def _per_photo(slices: Sequence[Slice]) -> dict[str, float]:
    """CPU milliseconds a photo, by role."""
    total = sum(each.total for each in slices)
    roles = dict.fromkeys(role for each in slices for role in each.server_cpu)
    return {
        role: round(1000 * sum(each.server_cpu.get(role, 0.0) for each in slices) / total, 2)
        for role in roles
    }


def table(result: Mapping[str, Any]) -> str:
    """Markdown: a table for each concurrency."""
    blocks = []
    for concurrency, found in result["concurrency"].items():
        triton, bare = found["triton_us"], found["bare_us"]
        lines = [
            f"concurrency {concurrency}, µs a request (mean)",
            "",
            "| | queue | input | infer | output | in Triton | bare |",
            "|---|---|---|---|---|---|---|",
        ]
        for step in STEPS:
            parts = [round(triton[step][part]) for part in PARTS]
            total = round(triton[step]["total"])
            cells = " | ".join(map(str, [*parts, total, round(bare[step])]))
            lines.append(f"| {step} | {cells} |")
        seen = found["client_us"]
        inside = round(triton["ensemble"]["total"])
        between = inside - sum(round(triton[step]["total"]) for step in STEPS)
        lines += [
            f"| between the steps | | | | | {between} | |",
            f"| outside the ensemble (gRPC, client) | | | | | {seen - inside:.0f} | |",
            f"| **all** | | | | | **{seen:.0f}** | **{found['bare_client_us']:.0f}** |",
            "",
            f"mean batch of ssd {triton['ssd']['batch']:.2f}; "
            f"photos a second {found['throughput']:.1f}, bare {found['bare_throughput']:.1f}; "
            f"CPU ms a photo: {_cpu_line(found)}",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _cpu_line(found: Mapping[str, Any]) -> str:
    """CPU by process, in words."""
    parts = [f"{role} {ms:.2f}" for role, ms in found["cpu_ms"].items()]
    total = sum(found["cpu_ms"].values())
    return (
        f"{', '.join(parts)}, together {total:.2f}; bare {found['bare_cpu_ms']:.2f}; "
        f"load generator {found['generator_ms']:.2f}"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except ContestantError as error:
        sys.exit(f"error: {error}")
