"""Two ensembles of running servers, side by side, on the same photos.

Each photo goes to both, one after the other, so that both run on an equally busy machine. Measured
are mAP of each where the photos are annotated, how far the two agree in any case, latency and
failures of these requests, and the same of what clients have sent since each was loaded.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from client import Detector, DetectorError, Result
from client.tensors import Parameters
from serving.errors import CompareError
from serving.release.agreement import measure_agreement
from serving.release.evaluation import (
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    EvaluationSet,
    Metrics,
    score_detections,
)
from serving.release.traffic import Traffic, add_traffic, read_defaults, read_traffic

SCORING: Parameters = {"score_threshold": SCORE_THRESHOLD, "max_detections": MAX_DETECTIONS}


@dataclass(frozen=True)
class Side:
    """One of the two models, and what it did with the photos.

    latency_ms, p95_ms: median and 95th percentile of the answered requests, None without any.
    boxes: how many it found, at the server's default thresholds, in photos that both answered.
    metrics: None without an evaluation set. A photo that failed counts as nothing found.
    traffic: before the photos were sent.
    """

    model: str
    requests: int
    failures: int
    first_error: str
    latency_ms: float | None
    p95_ms: float | None
    boxes: int
    metrics: Metrics | None
    traffic: Traffic


@dataclass(frozen=True)
class Comparison:
    """Both sides, and how far they agree at the server's default thresholds.

    agreement: of the boxes of both sides, pooled over the photos that both answered, the share that
        have a partner: a box of the same label on the other side with an IoU of 0.5 or more, one to
        one. 0 to 1; 1 where both find nothing, None where no photo was answered by both.
    score_change: the mean over the partners of the candidate's score minus the stable one's, 0
        without any.
    """

    stable: Side
    candidate: Side
    agreement: float | None
    score_change: float


def compare_models(
    url: str,
    stable: str,
    candidate: str,
    photos: Sequence[Path],
    evaluation: EvaluationSet | None = None,
    progress: bool = True,
) -> Comparison:
    """Send photos to two ensembles, alternating which is first; several servers take turns.

    With an evaluation set requests ask for everything from a score of 0.01 on, as mAP wants it, and
    the agreement is of those above the server's default: one pass for both.

    Args:
        url: host and port of the server's gRPC protocol; several are separated by commas.
        stable: one ensemble's name.
        candidate: the other's.
        photos: image files; those of the evaluation set are sent as well.
        evaluation: annotated photos to measure mAP with.
        progress: show a bar, if on a terminal.

    Raises:
        CompareError: no photos, no such models, or one of the servers is not there.
        EvaluationError: neither model answers with any of the set's labels.
    """
    files = list(dict.fromkeys([*photos, *(evaluation.photos.values() if evaluation else ())]))
    if not files:
        raise CompareError("no photos to compare with: name some, or an evaluation set")
    try:
        with (
            Detector(url, model=stable, retries=0) as first,
            Detector(url, model=candidate, retries=0) as second,
        ):
            traffics = [
                add_traffic([read_traffic(each, model) for each in url.split(",")])
                for model in (stable, candidate)
            ]
            defaults = read_defaults(url.split(",")[0], stable)
            runs = (Run(first), Run(second))
            send_in_turns(runs, files, SCORING if evaluation else {}, progress)
    except DetectorError as error:
        raise CompareError(str(error)) from None
    metrics = _measure_maps(runs, evaluation)
    pairs = [
        (defaults.cut(runs[0].results[file]), defaults.cut(runs[1].results[file]))
        for file in files
        if all(file in run.results for run in runs)
    ]
    first_side, second_side = (
        run.side(sum(len(pair[which]) for pair in pairs), metrics[which], traffics[which])
        for which, run in enumerate(runs)
    )
    return Comparison(first_side, second_side, *measure_agreement(pairs))


class Run:
    """One model's answers."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.results: dict[Path, Result] = {}
        self._seconds: list[float] = []
        self._errors: list[str] = []

    def warm_up(self, photo: Path, parameters: Parameters) -> None:
        """A request that does not count: it opens the connection."""
        with suppress(DetectorError):
            self._detector.detect(photo, **parameters)

    def ask(self, photo: Path, parameters: Parameters) -> None:
        """A request that counts."""
        started = time.perf_counter()
        try:
            self.results[photo] = self._detector.detect(photo, **parameters)
            self._seconds.append(time.perf_counter() - started)
        except DetectorError as error:
            self._errors.append(str(error))

    def side(self, boxes: int, metrics: Metrics | None, traffic: Traffic) -> Side:
        """What came of the requests that counted, with what only the comparison knows."""
        latencies = 1000 * np.quantile(self._seconds, [0.5, 0.95]) if self._seconds else None
        return Side(
            model=self._detector.model,
            requests=len(self._seconds) + len(self._errors),
            failures=len(self._errors),
            first_error=self._errors[0] if self._errors else "",
            latency_ms=None if latencies is None else float(latencies[0]),
            p95_ms=None if latencies is None else float(latencies[1]),
            boxes=boxes,
            metrics=metrics,
            traffic=traffic,
        )


def send_in_turns(
    runs: Sequence[Run], files: Sequence[Path], parameters: Parameters, progress: bool
) -> None:
    """Send each photo to both models; which of them is first changes from photo to photo."""
    for each in runs:
        each.warm_up(files[0], parameters)
    hidden = None if progress else True  # None: hidden where there is no terminal
    for place, file in enumerate(tqdm(files, unit="photo", disable=hidden, leave=False)):
        for each in runs if place % 2 == 0 else runs[::-1]:
            each.ask(file, parameters)


def _measure_maps(runs: Sequence[Run], evaluation: EvaluationSet | None) -> list[Metrics | None]:
    if evaluation is None:
        return [None] * len(runs)
    results = [result for each in runs for result in each.results.values()]
    labels = {found.label for result in results for found in result.detections}
    if labels and not labels & set(evaluation.labels):
        evaluation.check_labels(sorted(labels))
    photos = evaluation.photos.items()
    return [
        score_detections(
            evaluation, {n: run.results[file] for n, file in photos if file in run.results}
        )
        for run in runs
    ]
