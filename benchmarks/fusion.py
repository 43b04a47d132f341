"""What a fusion is worth and costs: served beside its members, and of one network's views.

    python -m serving fuse ensemble:1 ensemble:2 --repository repositories/mine
    python -m benchmarks.fusion repositories/mine data/val.json --models ensemble fused \
        --artifact artifacts/mine --output benchmarks/results/fusion.json

Each photo goes to all models, which take turns in being first. Memory is by process, a network's
with all its versions that are served.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import psutil
import tyro
from tqdm import tqdm

from benchmarks.contestants import processes
from benchmarks.measurement import machine
from client import Detector, LocalDetector, Result
from serving.release.comparison import SCORING
from serving.release.evaluation import EvaluationSet, read_evaluation, score_detections
from serving.server.server import EmbeddedServer, ServerSettings

VIEWS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "mirrored": {"flips": ["horizontal"]},
    "mirrored, upside down": {"flips": ["horizontal", "vertical"]},
    "at 0.8": {"scales": [0.8]},
    "mirrored, at 0.8": {"flips": ["horizontal"], "scales": [0.8]},
}


@dataclass(frozen=True)
class Settings:
    """Send annotated photos to several ensembles of one repository, in turns."""

    repository: Annotated[Path, tyro.conf.Positional]
    """Model repository, with all of them."""
    evaluation: Annotated[Path, tyro.conf.Positional]
    """COCO JSON file beside its photos, as `training coco` writes it."""
    models: tuple[str, ...] = ("ensemble", "fused")
    """Ensembles to compare."""
    artifact: Path | None = None
    """Artifact whose network sees the photos flipped and smaller as well, in this process."""
    output: Path | None = None
    """JSON file to write the figures to."""


@dataclass
class Answers:
    """One detector's."""

    name: str
    detector: Detector | LocalDetector
    results: dict[int, Result] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)

    def ask(self, number: int, photo: bytes) -> None:
        """Send a photo, and note the answer."""
        started = time.perf_counter()
        self.results[number] = self.detector.detect(photo, **SCORING)
        self.milliseconds.append(1000 * (time.perf_counter() - started))

    def summarise(self, evaluation: EvaluationSet) -> dict[str, float]:
        """The figures of the table."""
        metrics = score_detections(evaluation, self.results)
        return {
            "mAP@0.5": round(metrics.map50, 4),
            "mAP@[.5:.95]": round(metrics.map, 4),
            "median_ms": round(median(self.milliseconds), 2),
        }


def _measure_models(settings: Settings, evaluation: EvaluationSet) -> dict[str, Any]:
    """The figures of each ensemble."""
    with EmbeddedServer(ServerSettings(settings.repository)) as server:
        every = [Answers(name, Detector(server.grpc_url, model=name)) for name in settings.models]
        found = _ask_in_turns(every, evaluation)
        pids = [server.process.pid, *(stub.pid for stub in server.process.stubs())]
        sizes = processes.memory(map(psutil.Process, pids))
    return {"served": found, "mib": {role: round(size["pss"], 1) for role, size in sizes.items()}}


def _measure_views(artifact: Path, evaluation: EvaluationSet) -> dict[str, Any]:
    """The figures of a network that sees each photo once, and again in other ways."""
    every = [Answers(name, LocalDetector(artifact, **views)) for name, views in VIEWS.items()]
    return {"views": _ask_in_turns(every, evaluation)}


def _ask_in_turns(every: list[Answers], evaluation: EvaluationSet) -> dict[str, Any]:
    """Send each photo to all detectors, and close them. Returns the figures of each."""
    for each in every:
        each.detector.detect(next(iter(evaluation.photos.values())))  # opens the connection
    for turn, (number, path) in enumerate(tqdm(evaluation.photos.items(), disable=None)):
        first = turn % len(every)
        for each in every[first:] + every[:first]:
            each.ask(number, path.read_bytes())
    for each in every:
        each.detector.close()
    return {each.name: each.summarise(evaluation) for each in every}


def main(settings: Settings) -> None:
    """Measure, print, write."""
    evaluation = read_evaluation(settings.evaluation)
    found = {"machine": machine.describe_machine(), "photos": len(evaluation.photos)}
    found |= _measure_models(settings, evaluation)
    if settings.artifact:
        found |= _measure_views(settings.artifact, evaluation)
    print(json.dumps(found, indent=1))
    if settings.output:
        settings.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
