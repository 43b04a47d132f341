"""`serving compare`: two ensembles of one running server, side by side, on the same photos.

Each photo goes to both, one after the other, so that both run on an equally busy machine. What the
table tells: mAP of each where the photos are annotated, how far the two agree in any case, latency
and failures of these requests, and the same of what clients have sent since each was loaded.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import tritonclient.grpc as grpc_client
import tyro
from tqdm import tqdm
from tritonclient.utils import InferenceServerException

from client import Box, Detection, Detector, DetectorError, Result
from client.detect import files as photo_files
from client.errors import from_grpc
from client.tensors import Parameters
from serving.control import CHANNEL
from serving.errors import CompareError
from serving.release.evaluation import (
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    EvaluationSet,
    Metrics,
    read_evaluation,
    score,
)
from serving.repository import CANARY_SUFFIX

SAME_OBJECT = 0.5  # IoU from which two boxes of one label are the same object
SCORING: Parameters = {"score_threshold": SCORE_THRESHOLD, "max_detections": MAX_DETECTIONS}
COUNTED = 2  # times that Triton (2.51) counts a request that failed in a step of an ensemble
TIMEOUT = 10.0  # seconds, for the calls that only ask


@dataclass(frozen=True)
class CompareSettings:
    """Compare a canary with the stable version, on photos of yours or on annotated ones."""

    photos: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PHOTO...", help_behavior_hint=""),
    ] = ()
    """Image files and folders; none are needed with --evaluation."""
    url: str = "127.0.0.1:8001"
    """Host and gRPC port of the running server."""
    model: str = "ensemble"
    """The stable ensemble; the canary is the one with _canary behind that name."""
    evaluation: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: no mAP)")
    ] = None
    """COCO JSON of annotated photos, as `python -m training coco` writes it."""
    images: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the file's)")
    ] = None
    """Folder of the annotated photos."""
    json: bool = False
    """Print one JSON document instead of a table."""


@dataclass(frozen=True)
class Traffic:
    """What an ensemble was asked since it was last loaded, by anybody.

    A canary is loaded when it starts and when its share is changed, the stable ensemble when a
    canary starts; both when an old version is removed. Triton then counts from 0.

    failed: whoever's fault: photos that are none, timeouts and an overloaded server among them.
    latency_ms: mean of the answered requests, inside the server; None without any.
    """

    answered: int
    failed: int
    latency_ms: float | None

    @property
    def asked(self) -> int:
        """All of them."""
        return self.answered + self.failed

    @property
    def failed_percent(self) -> float | None:
        """None where nothing was asked."""
        return 100 * self.failed / self.asked if self.asked else None


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


def run(settings: CompareSettings) -> int:
    """Compare and print. Returns 0 even where the canary is worse, 2 for wrong usage.

    Raises:
        ServingError: there is nothing to compare.
    """
    if not settings.photos and settings.evaluation is None:
        print("error: name photos, folders of photos, or --evaluation FILE", file=sys.stderr)
        return 2
    annotated = (
        read_evaluation(settings.evaluation, settings.images) if settings.evaluation else None
    )
    photos = find_photos(settings.photos)
    found = compare(settings.url, settings.model, settings.model + CANARY_SUFFIX, photos, annotated)
    print(json.dumps(asdict(found), indent=2) if settings.json else describe(found))
    return 0


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """The image files among paths and in folders. Raises CompareError where one gives none."""
    files = []
    for path in paths:
        found = photo_files.find(path)
        if not all(file.is_file() for file in found):
            raise CompareError(f"{path}: no such file or folder")
        if not found:
            raise CompareError(f"{path}: a folder without images")
        files += found
    return files


def compare(
    url: str,
    stable: str,
    candidate: str,
    photos: Sequence[Path],
    evaluation: EvaluationSet | None = None,
    progress: bool = True,
) -> Comparison:
    """Send photos to two ensembles of one server, alternating which is first.

    With an evaluation set requests ask for everything from a score of 0.01 on, as mAP wants it, and
    the agreement is of those above the server's default: one pass for both.

    Args:
        url: host and port of the server's gRPC protocol.
        stable: one ensemble's name.
        candidate: the other's.
        photos: image files; those of the evaluation set are sent as well.
        evaluation: annotated photos to measure mAP with.
        progress: show a bar, if on a terminal.

    Raises:
        CompareError: no photos, no such models, or no server there.
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
            traffics = [traffic(url, model) for model in (stable, candidate)]
            defaults = read_defaults(url, stable)
            runs = (_Run(first), _Run(second))
            _send(runs, files, SCORING if evaluation else {}, progress)
    except DetectorError as error:
        raise CompareError(str(error)) from None
    metrics = _score(runs, evaluation)
    pairs = [
        (defaults.cut(runs[0].results[file]), defaults.cut(runs[1].results[file]))
        for file in files
        if all(file in run.results for run in runs)
    ]
    first_side, second_side = (
        run.side(sum(len(pair[which]) for pair in pairs), metrics[which], traffics[which])
        for which, run in enumerate(runs)
    )
    return Comparison(first_side, second_side, *agree(pairs))


def traffic(url: str, model: str) -> Traffic:
    """What a model was asked since it was last loaded, from the server's statistics.

    The server's own supervisor is among those who ask. Raises CompareError without such a model.
    """
    with _connected(url) as client:
        if not client.is_model_ready(model, client_timeout=TIMEOUT):
            raise CompareError(
                f"{url} serves no model {model}; `python -m serving canary` starts a canary"
            )
        answer = client.get_inference_statistics(model, client_timeout=TIMEOUT)
    answered = sum(version.inference_stats.success.count for version in answer.model_stats)
    nanoseconds = sum(version.inference_stats.success.ns for version in answer.model_stats)
    failures = sum(version.inference_stats.fail.count for version in answer.model_stats)
    failed = math.ceil(failures / COUNTED)
    return Traffic(answered, failed, nanoseconds / answered / 1e6 if answered else None)


@dataclass(frozen=True)
class Defaults:
    """What the server takes for what a request leaves out."""

    score_threshold: float
    max_detections: int

    def cut(self, result: Result) -> list[Detection]:
        """What a request without parameters would have got, of what one with low ones got."""
        found = [each for each in result.detections if each.score > self.score_threshold]
        return found[: self.max_detections]


def read_defaults(url: str, ensemble: str) -> Defaults:
    """From the configuration of the ensemble's step that has them as parameters."""
    with _connected(url) as client:
        steps = client.get_model_config(ensemble, client_timeout=TIMEOUT).config.ensemble_scheduling
        for step in steps.step:
            config = client.get_model_config(step.model_name, client_timeout=TIMEOUT).config
            if "score_threshold" in config.parameters:
                threshold, most = (
                    config.parameters[name].string_value
                    for name in ("score_threshold", "max_detections")
                )
                return Defaults(float(threshold), int(most))
    raise CompareError(f"{ensemble} has no step with the parameter score_threshold")


def agree(
    pairs: Iterable[tuple[Sequence[Detection], Sequence[Detection]]],
) -> tuple[float | None, float]:
    """`Comparison.agreement` and `score_change` of detections of the same photos."""
    boxes, changes, photos = 0, [], 0
    for first, second in pairs:
        photos += 1
        boxes += len(first) + len(second)
        changes += [second[b].score - first[a].score for a, b in partners(first, second)]
    share = 2 * len(changes) / boxes if boxes else 1.0
    return (share if photos else None), (fmean(changes) if changes else 0.0)


def partners(first: Sequence[Detection], second: Sequence[Detection]) -> list[tuple[int, int]]:
    """Places in both of the boxes that are the same object, the best IoU first, one to one."""
    overlaps = [
        (overlap, a, b)
        for a, one in enumerate(first)
        for b, other in enumerate(second)
        if one.label == other.label and (overlap := iou(one.box, other.box)) >= SAME_OBJECT
    ]
    found: list[tuple[int, int]] = []
    free = (set(range(len(first))), set(range(len(second))))
    for _, a, b in sorted(overlaps, key=lambda each: -each[0]):
        if a in free[0] and b in free[1]:
            found.append((a, b))
            free[0].remove(a)
            free[1].remove(b)
    return found


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1; 0 where neither has an area."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    common = max(width, 0.0) * max(height, 0.0)
    areas = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other))
    return common / (areas - common) if areas > common else 0.0


def describe(comparison: Comparison) -> str:
    """A table for people: both sides, their difference, and the same in words."""
    sides = (comparison.stable, comparison.candidate)
    rows = [("", "stable", "canary", "difference"), *_metric_rows(sides), *_request_rows(sides)]
    width = max(len(row[0]) for row in rows)
    table = [f"{a:{width}}  {b:>10}  {c:>10}  {d:>10}".rstrip() for a, b, c, d in rows]
    head = f"{sides[0].requests} photos to each of {sides[0].model} and {sides[1].model}"
    return "\n".join([head, *table, "", *_words(comparison)])


class _Run:
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


def _send(
    runs: Sequence[_Run], files: Sequence[Path], parameters: Parameters, progress: bool
) -> None:
    for each in runs:
        each.warm_up(files[0], parameters)
    hidden = None if progress else True  # None: hidden where there is no terminal
    for place, file in enumerate(tqdm(files, unit="photo", disable=hidden, leave=False)):
        for each in runs if place % 2 == 0 else runs[::-1]:
            each.ask(file, parameters)


def _score(runs: Sequence[_Run], evaluation: EvaluationSet | None) -> list[Metrics | None]:
    if evaluation is None:
        return [None] * len(runs)
    results = [result for each in runs for result in each.results.values()]
    labels = {found.label for result in results for found in result.detections}
    if labels and not labels & set(evaluation.labels):
        evaluation.check_labels(sorted(labels))
    return [
        score(
            evaluation,
            {
                n: each.results[file]
                for n, file in evaluation.photos.items()
                if file in each.results
            },
        )
        for each in runs
    ]


@contextmanager
def _connected(url: str) -> Iterator[grpc_client.InferenceServerClient]:
    client = grpc_client.InferenceServerClient(url, channel_args=CHANNEL)
    try:
        yield client
    except InferenceServerException as error:
        raise CompareError(str(from_grpc(error, address=url, image=url, timeout=TIMEOUT))) from None
    finally:
        client.close()


def _metric_rows(sides: tuple[Side, Side]) -> list[tuple[str, str, str, str]]:
    first, second = (side.metrics for side in sides)
    if first is None or second is None:
        return []
    values = [("mAP@0.5", first.map50, second.map50), ("mAP@[.5:.95]", first.map, second.map)]
    values += [
        (f"  {label}, mAP@0.5", pair[0], second.per_class[label][0])
        for label, pair in first.per_class.items()
    ]
    return [_row(name, a, b, ".3f") for name, a, b in values]


def _request_rows(sides: tuple[Side, Side]) -> list[tuple[str, str, str, str]]:
    counts: list[tuple[str, Callable[[Side], int]]] = [
        ("boxes", lambda side: side.boxes),
        ("failed requests", lambda side: side.failures),
    ]
    times: list[tuple[str, Callable[[Side], float | None]]] = [
        ("latency, median, ms", lambda side: side.latency_ms),
        ("  95th percentile, ms", lambda side: side.p95_ms),
    ]
    first, second = (side.traffic for side in sides)
    return [
        *((name, str(value(sides[0])), str(value(sides[1])), "") for name, value in counts),
        *(_row(name, value(sides[0]), value(sides[1]), ".1f") for name, value in times),
        ("requests of others before", str(first.asked), str(second.asked), ""),
        _row("  of them failed, %", first.failed_percent, second.failed_percent, ".2f"),
        _row("  mean latency in the server, ms", first.latency_ms, second.latency_ms, ".1f"),
    ]


def _row(
    name: str, first: float | None, second: float | None, form: str
) -> tuple[str, str, str, str]:
    texts = ["-" if value is None else f"{value:{form}}" for value in (first, second)]
    change = "" if first is None or second is None else f"{second - first:+{form}}"
    return name, texts[0], texts[1], change


def _words(comparison: Comparison) -> list[str]:
    """The same in sentences: what to look at before promoting."""
    stable, canary = comparison.stable, comparison.candidate
    lines = []
    if stable.metrics and canary.metrics:
        map50, map_ = (
            _change(getattr(canary.metrics, name) - getattr(stable.metrics, name))
            for name in ("map50", "map")
        )
        lines.append(f"canary: mAP@0.5 {map50}, mAP@[.5:.95] {map_}")
    if comparison.agreement is None:
        lines.append("agreement: no photo was answered by both")
    else:
        lines.append(
            f"agreement: {comparison.agreement:.1%} of the boxes have a partner of the same label "
            f"(IoU 0.5), with scores {_change(comparison.score_change)}"
        )
    lines += [
        f"{name}: {side.failures} of {side.requests} requests failed, first: {side.first_error}"
        for name, side in (("stable", stable), ("canary", canary))
        if side.failures
    ]
    return lines


def _change(difference: float) -> str:
    """A signed difference in words."""
    if abs(difference) < 0.0005:
        return "unchanged"
    return f"{abs(difference):.3f} {'higher' if difference > 0 else 'lower'}"
