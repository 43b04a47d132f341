"""How fast the service is: beside the bare pipeline, which is the bound, and beside its peers.

    python -m benchmarks.serving_speed --photos samples --peers-python .venv-peers/bin/python

Machines drift, so nothing is compared that was not measured in turns: a slice of the bare pipeline
stands before and after each slice of a contestant, and what counts is the ratio. The figures are
explained in docs/performance.md.
"""

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from benchmarks import ROOT
from benchmarks.contestants import catalogue
from benchmarks.contestants.ensemble import ensemble, repository_with
from benchmarks.contestants.served import Target
from benchmarks.contestants.slice import ContestantError
from benchmarks.contestants.worker import WorkerError
from benchmarks.measurement import machine
from benchmarks.serving_speed import open_loop, perf_analyzer, report
from benchmarks.serving_speed.bench import Bench, Case, Settings, networks

ENSEMBLE = "ensemble"


def main(settings: Settings) -> None:
    """Measure all, write and print it; after each contestant what there is until then."""
    settings.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(settings, settings.output)
    result: dict[str, Any] = {
        "machine": machine.describe_machine(),
        "photos": len(bench.photos),
        "settings": {k: str(v) for k, v in dataclasses.asdict(settings).items()},
        "contestants": [],
        "failed": {},
        "head_to_head": [],
        "open_loop": [],
        "perf_analyzer": [],
    }
    with _stopped_by_signals():
        for precision, network in networks(settings).items():
            _measure_case(bench, result, precision, network)
        if settings.documented and settings.peers_python:
            _measure_documented(bench, result)
    report.write_report(settings.output, result)
    print(report.tables(result))


def _measure_case(bench: Bench, result: dict[str, Any], precision: str, network: Path) -> None:
    """All contestants with one network."""
    s = bench.settings
    case = bench.case(precision, network)
    with contextlib.ExitStack() as stack:
        targets = [
            ensemble_of(bench, network, checkout, stack) for checkout in (ROOT, *s.checkouts)
        ]
        targets = [target for target in targets if wanted(s, target.name)]
        peers = _peers_with(bench, network)
        for target in [*targets, *peers]:
            closed(bench, result, target, case)
        if not targets:
            return
        ours = targets[0]
        rival = _best_peer(result, case, peers)
        if rival:
            second = rival
            attempt(
                bench, result, "head_to_head", lambda: bench.head_to_head(ours, case, second, case)
            )
        if s.open_loop:
            attempt(
                bench,
                result,
                "open_loop",
                lambda: open_loop.measure_arrival_rates(bench, ours, rival, case),
            )
        if s.perf_analyzer:
            program = s.perf_analyzer
            attempt(
                bench,
                result,
                "perf_analyzer",
                lambda: perf_analyzer.compare_generators(bench, ours, case, program),
            )


def _measure_documented(bench: Bench, result: dict[str, Any]) -> None:
    """The peers as documented, with the float32 network; the ensemble as shipped beside them."""
    s = bench.settings
    found = networks(dataclasses.replace(s, precisions=("float32", "int8")))
    shipped = found.get("int8", found["float32"])
    case = bench.case("documented", found["float32"], documented=True, beside=shipped)
    ours_case = bench.case("int8" if "int8" in found else "float32", shipped)
    peers = _peers_with(bench, found["float32"], documented=True)
    for target in peers:
        closed(bench, result, target, case)
    rival = _best_peer(result, case, peers)
    if rival and wanted(s, ENSEMBLE):
        with contextlib.ExitStack() as stack:
            ours = ensemble_of(bench, shipped, ROOT, stack)
            attempt(
                bench,
                result,
                "head_to_head",
                lambda: bench.head_to_head(ours, ours_case, rival, case),
            )


def ensemble_of(bench: Bench, network: Path, checkout: Path, stack: contextlib.ExitStack) -> Target:
    """The embedded server of a checkout, over a copy of its repository with this network."""
    s = bench.settings
    own = checkout == ROOT
    source = s.repository if own else checkout / "model_repository"
    repository = stack.enter_context(repository_with(network, source))
    name = ENSEMBLE if own else f"{ENSEMBLE} of {checkout.resolve().name}"
    options = ["--", *s.triton] if s.triton else []
    return ensemble(repository, name, checkout.resolve(), options)


def _peers_with(bench: Bench, network: Path, documented: bool = False) -> list[Target]:
    """The peers to measure, all with one network; prints why there are none."""
    s = bench.settings
    names = [name for name in catalogue.NAMES if wanted(s, name)]
    if names and (reason := catalogue.reason_for_no_peers(s.peers_python)):
        print(f"peers are left out: {reason}", file=sys.stderr)
        return []
    assert s.peers_python or not names
    python = s.peers_python or Path()
    return [catalogue.peer(name, python, network, bench.cores, documented) for name in names]


def wanted(settings: Settings, name: str) -> bool:
    """Whether a contestant was asked for."""
    return not settings.only or name in settings.only


def closed(bench: Bench, result: dict[str, Any], target: Target, case: Case) -> None:
    """One contestant's closed loop into the result."""
    attempt(bench, result, "contestants", lambda: bench.closed_loop(target, case), target.name)


def attempt(
    bench: Bench,
    result: dict[str, Any],
    where: str,
    measure: Callable[[], dict[str, Any]],
    name: str = "",
) -> None:
    """Measure into a list of the result and write it; what fails is noted, the others go on."""
    try:
        result[where].append(measure())
    except (ContestantError, WorkerError) as error:
        print(f"failed: {error}", file=sys.stderr)
        result["failed"][f"{where} {name}".strip()] = str(error)
    report.write_report(bench.settings.output, result)


def _best_peer(result: Mapping[str, Any], case: Case, peers: Sequence[Target]) -> Target | None:
    """The peer with the highest throughput in a case."""
    found = {
        each["name"]: each["concurrency"][each["best"]]["of_bare"]["median"]
        for each in result["contestants"]
        if each["case"] == case.name
    }
    measured = [peer for peer in peers if peer.name in found]
    return max(measured, key=lambda peer: found[peer.name], default=None)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: with all servers."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except ContestantError as error:
        sys.exit(f"error: {error}")
