"""What one run of the benchmark holds: its settings, its cases, and its closed loops."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import ROOT
from benchmarks.contestants.bare import Bare
from benchmarks.contestants.served import Served, Target, start
from benchmarks.contestants.slice import Expected
from benchmarks.measurement import accuracy, figures, machine
from benchmarks.measurement.photos import find_photos
from benchmarks.measurement.turns import Run, Turn, above, in_turns, summary

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


class Bench:
    """One run of the benchmark.

    Args:
        settings: what is measured.
        folder: for logs.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.photos = find_photos(settings.photos)
        self.cores = max(1, int(machine.usable_cores()))
        self.limit = STALL * settings.seconds
        self.maps: dict[str, float] = {}

    def case(
        self, name: str, network: Path, documented: bool = False, beside: Path | None = None
    ) -> Case:
        """What contestants with this network and decoding must answer, and how good that is."""
        if self.settings.evaluation:
            self.maps[name] = accuracy.measure_map(network, self.settings.evaluation, documented)
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


def networks(settings: Settings) -> dict[str, Path]:
    """The ONNX file of each precision there is one for."""
    versions = sorted(
        (path for path in (settings.repository / "ssd").glob("[0-9]*/model.onnx")),
        key=lambda path: int(path.parent.name),
    )
    plain = [path for path in versions if not _is_quantised(path)]
    quantised = [path for path in versions if _is_quantised(path)]
    found = {
        "float32": settings.float32 or (plain[0] if plain else None),
        "int8": settings.int8 or (quantised[-1] if quantised else None),
    }
    return {
        name: path.resolve()
        for name, path in found.items()
        if path is not None and name in settings.precisions
    }


def _is_quantised(network: Path) -> bool:
    """Whether an ONNX file has quantised tensors, by the operator's name in it."""
    return b"QuantizeLinear" in network.read_bytes()
