"""How fast the service is: beside the bare pipeline, which is the bound, and beside its peers.

    python -m benchmarks.serving_speed --photos samples --peers-python .venv-peers/bin/python

Machines drift, so nothing is compared that was not measured in turns: a slice of the bare pipeline
stands before and after each slice of a contestant, and what counts is the ratio. The figures are
explained in docs/performance.md.
"""

import contextlib
import dataclasses
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from tqdm import tqdm

from benchmarks import accuracy, catalogue, figures, machine, open_loop, report
from benchmarks.contestants import (
    Bare,
    ContestantError,
    Expected,
    Served,
    Slice,
    Target,
    ensemble,
    repository_with,
    start,
)
from benchmarks.line import ROOT, WorkerError
from benchmarks.photos import find

ENSEMBLE = "ensemble"
STALL = 5.0  # times as long as planned: the machine stood still, the slice does not count


@dataclasses.dataclass(frozen=True)
class Settings:
    """Measure the embedded server beside the bare pipeline and beside peers."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    float32: Path | None = None
    """ONNX file; not given: the oldest version in the repository."""
    int8: Path | None = None
    """ONNX file; not given: the newest version in the repository that is quantised."""
    repository: Path = ROOT / "model_repository"
    """Model repository whose configuration is served."""
    checkouts: tuple[Path, ...] = ()
    """Other folders of this project, whose servers are measured too, each with its repository."""
    peers_python: Path | None = None
    """Interpreter of the peers' environment; not given: no peers."""
    only: tuple[str, ...] = ()
    """Contestants to measure; none given: all."""
    precisions: tuple[str, ...] = ("float32", "int8")
    """Networks to measure with."""
    documented: bool = True
    """Measure also the peers as their documentation shows them: float32, decoded in full."""
    evaluation: Path | None = None
    """COCO file for the mAP; not given: no mAP."""
    concurrencies: tuple[int, ...] = (1, 2, 4, 8)
    """Requests under way at once; the best counts."""
    slices: int = 10
    """Turns of each."""
    seconds: float = 1.0
    """Of each turn."""
    warm_up: float = 3.0
    """Seconds of load before anything counts."""
    open_loop: bool = True
    """Measure also at given arrival rates."""
    open_seconds: float = 5.0
    """Of each turn at an arrival rate."""
    perf_analyzer: Path | None = None
    """perf_analyzer, the independent load generator (docs/serving.md tells where it is)."""
    triton: tuple[str, ...] = ()
    """Further arguments for tritonserver."""
    output: Path = Path("runs/serving_speed")
    """Folder for the JSON, the tables and the pictures."""


class Case(NamedTuple):
    """A network and a way of decoding: contestants of one case answer alike."""

    name: str  # float32, int8, documented
    network: Path
    expected: Expected
    beside: Path  # the network of the bare pipeline they are measured beside


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


class Bench:
    """One run of the benchmark.

    Args:
        settings: what is measured.
        folder: for logs.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.photos = find(settings.photos)
        self.cores = max(1, int(machine.usable_cores()))
        self.limit = STALL * settings.seconds
        self.maps: dict[str, float] = {}

    def case(
        self, name: str, network: Path, documented: bool = False, beside: Path | None = None
    ) -> Case:
        """What contestants with this network and decoding must answer, and how good that is."""
        if self.settings.evaluation:
            self.maps[name] = accuracy.measure(network, self.settings.evaluation, documented)
        expected = accuracy.expected(network, self.photos, documented)
        return Case(name, network, expected, beside or network)

    @contextlib.contextmanager
    def served(self, target: Target, case: Case) -> Iterator[Served]:
        """A contestant that runs and is warm."""
        log = self.folder / f"{target.name}-{case.name}.log".replace(" ", "-")
        with start(target, self.photos, case.expected, log) as server:
            server.run(max(self.settings.concurrencies), self.settings.warm_up)
            yield server

    def bare(self, case: Case, workers: int, threads: int = 1) -> Bare:
        """The bare pipeline beside which a case is measured."""
        return Bare(case.beside, self.photos, workers, threads)

    def closed_loop(self, target: Target, case: Case) -> dict[str, Any]:
        """One contestant at each concurrency, in turns with the bare pipeline."""
        s = self.settings
        with (
            self.bare(case, self.cores) as bare,
            self.bare(case, 1) as alone,
            self.bare(case, 1, self.cores) as threaded,
            self.served(target, case) as server,
        ):
            runs = [
                Run(str(c), lambda c=c: server.run(c, s.seconds))  # type: ignore[misc]
                for c in s.concurrencies
            ]
            beside = [
                Run("bare, 1 worker of 1 thread", lambda: alone.run(seconds=s.seconds)),
                Run(
                    f"bare, 1 worker of {self.cores} threads",
                    lambda: threaded.run(seconds=s.seconds),
                ),
            ]
            title = f"{target.name}, {case.name}"
            turns = in_turns(
                lambda: bare.run(seconds=s.seconds), runs + beside, s.slices, self.limit, title
            )
            memory, begin, idle = server.memory(), server.start_seconds, server.idle_cores()
        rows = {run.label: summary(turns[run.label], self.cores) for run in runs}
        return {
            "name": target.name,
            "case": case.name,
            "mAP@0.5": self.maps.get(case.name),
            "concurrency": rows,
            "best": max(rows, key=lambda label: rows[label]["of_bare"]["median"]),
            "above_bare_ms": {
                run.label: figures.spread(above(turns["1"], turns[run.label])) for run in beside
            }
            if "1" in turns
            else {},
            "bare": summary([Turn(t.before, t.before, t.after) for t in turns[runs[0].label]], 1),
            "memory_mib": memory,
            "start_seconds": begin,
            "idle_cores": idle,
        }

    def head_to_head(
        self, first: Target, first_case: Case, second: Target, second_case: Case
    ) -> dict[str, Any]:
        """Two contestants in turns with each other: a ratio without a third."""
        s = self.settings
        c = max(s.concurrencies)
        with self.served(first, first_case) as one, self.served(second, second_case) as other:
            turns = in_turns(
                lambda: other.run(c, s.seconds),
                [Run(first.name, lambda: one.run(c, s.seconds))],
                2 * s.slices,
                self.limit,
                f"{first.name} beside {second.name}, {second_case.name}",
            )[first.name]
        sides = [[turn.slice for turn in turns], [turn.before for turn in turns]]
        return {
            "first": f"{first.name}, {first_case.name}",
            "second": f"{second.name}, {second_case.name}",
            "concurrency": c,
            "ratio": figures.spread([turn.ratio for turn in turns]),
            "p99_ms": [
                figures.spread([figures.percentile(each.latencies_ms, 0.99) for each in side])
                for side in sides
            ],
            "mAP@0.5": [self.maps.get(first_case.name), self.maps.get(second_case.name)],
        }


def above(turns: Sequence[Turn], bare: Sequence[Turn]) -> list[float]:
    """By how many ms a photo takes longer than in the bare pipeline, round by round."""
    return [
        statistics.fmean(ours.slice.latencies_ms) - statistics.fmean(theirs.slice.latencies_ms)
        for ours, theirs in zip(turns, bare, strict=False)
    ]


def networks(settings: Settings) -> dict[str, Path]:
    """The ONNX file of each precision there is one for."""
    versions = sorted(
        (path for path in (settings.repository / "ssd").glob("[0-9]*/model.onnx")),
        key=lambda path: int(path.parent.name),
    )
    plain = [path for path in versions if not is_quantised(path)]
    quantised = [path for path in versions if is_quantised(path)]
    found = {
        "float32": settings.float32 or (plain[0] if plain else None),
        "int8": settings.int8 or (quantised[-1] if quantised else None),
    }
    return {
        name: path.resolve()
        for name, path in found.items()
        if path is not None and name in settings.precisions
    }


def is_quantised(network: Path) -> bool:
    """Whether an ONNX file has quantised tensors, by the operator's name in it."""
    return b"QuantizeLinear" in network.read_bytes()


def wanted(settings: Settings, name: str) -> bool:
    """Whether a contestant was asked for."""
    return not settings.only or name in settings.only


def main(settings: Settings) -> None:
    """Measure all, write and print it; after each contestant what there is until then."""
    settings.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(settings, settings.output)
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "photos": len(bench.photos),
        "settings": {k: str(v) for k, v in dataclasses.asdict(settings).items()},
        "contestants": [],
        "failed": {},
        "head_to_head": [],
        "open_loop": [],
        "perf_analyzer": [],
    }
    with stopped_by_signals():
        for precision, network in networks(settings).items():
            measure_case(bench, result, precision, network)
        if settings.documented and settings.peers_python:
            measure_documented(bench, result)
    report.write(settings.output, result)
    print(report.tables(result))


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: with all servers."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def measure_case(bench: Bench, result: dict[str, Any], precision: str, network: Path) -> None:
    """All contestants with one network."""
    s = bench.settings
    case = bench.case(precision, network)
    with contextlib.ExitStack() as stack:
        targets = [
            ensemble_of(bench, network, checkout, stack) for checkout in (ROOT, *s.checkouts)
        ]
        targets = [target for target in targets if wanted(s, target.name)]
        peers = peers_with(bench, network)
        for target in [*targets, *peers]:
            closed(bench, result, target, case)
        if not targets:
            return
        ours = targets[0]
        rival = best_peer(result, case, peers)
        if rival:
            second = rival
            attempt(
                bench, result, "head_to_head", lambda: bench.head_to_head(ours, case, second, case)
            )
        if s.open_loop:
            attempt(bench, result, "open_loop", lambda: open_loop.measure(bench, ours, rival, case))
        if s.perf_analyzer:
            program = s.perf_analyzer
            attempt(
                bench,
                result,
                "perf_analyzer",
                lambda: open_loop.perf_analyzer(bench, ours, case, program),
            )


def measure_documented(bench: Bench, result: dict[str, Any]) -> None:
    """The peers as documented, with the float32 network; the ensemble as shipped beside them."""
    s = bench.settings
    found = networks(dataclasses.replace(s, precisions=("float32", "int8")))
    shipped = found.get("int8", found["float32"])
    case = bench.case("documented", found["float32"], documented=True, beside=shipped)
    ours_case = bench.case("int8" if "int8" in found else "float32", shipped)
    peers = peers_with(bench, found["float32"], documented=True)
    for target in peers:
        closed(bench, result, target, case)
    rival = best_peer(result, case, peers)
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


def peers_with(bench: Bench, network: Path, documented: bool = False) -> list[Target]:
    """The peers to measure, all with one network; prints why there are none."""
    s = bench.settings
    names = [name for name in catalogue.NAMES if wanted(s, name)]
    if names and (reason := catalogue.check(s.peers_python)):
        print(f"peers are left out: {reason}", file=sys.stderr)
        return []
    assert s.peers_python or not names
    python = s.peers_python or Path()
    return [catalogue.peer(name, python, network, bench.cores, documented) for name in names]


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
    report.write(bench.settings.output, result)


def best_peer(result: Mapping[str, Any], case: Case, peers: Sequence[Target]) -> Target | None:
    """The peer with the highest throughput in a case."""
    found = {
        each["name"]: each["concurrency"][each["best"]]["of_bare"]["median"]
        for each in result["contestants"]
        if each["case"] == case.name
    }
    measured = [peer for peer in peers if peer.name in found]
    return max(measured, key=lambda peer: found[peer.name], default=None)


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except ContestantError as error:
        sys.exit(f"error: {error}")
