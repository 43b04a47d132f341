"""`serving drift`: whether what is sent, and what is found in it, still is as it was in training.

    find_window     window.py    the live version, and since when
    read_reference  figures.py   what it met on its validation set
    read_live       figures.py   what Prometheus counted since then
    judge_samples   verdict.py   what moved, and what cannot be told

Once, with words and an exit code, or at each scrape of a Prometheus (exporter.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import DriftError, UntoldError
from serving.history import read_record
from serving.model_config import read_thresholds
from serving.monitoring.exporter import export_verdicts
from serving.monitoring.figures import Reference, check_scraped, read_live, read_reference
from serving.monitoring.picture import draw_findings
from serving.monitoring.prometheus import Prometheus
from serving.monitoring.statistic import DETECTION_STATISTICS, SCORE
from serving.monitoring.verdict import MOVED, SAME, UNTOLD, Verdict, judge_samples
from serving.monitoring.window import Window, find_window, parse_seconds
from serving.monitoring.words import format_json, format_words
from serving.repository import DEFAULT_MODEL, Repository, open_repository
from serving.store.address import open_store

EXIT_CODES = {SAME: 0, MOVED: 3, UNTOLD: 4}


@dataclass(frozen=True)
class DriftSettings:
    """Compare what the servers measured with what training measured on its validation set.

    Exit code: 0 no drift, 3 drift, 4 cannot tell, 1 an error, 2 wrong usage.
    """

    prometheus: str = "http://127.0.0.1:9090"
    """Address of the Prometheus that scrapes the servers."""
    window: str = "1h"
    """How far back, such as 30m, 1h or 7d; no further than to the last release."""
    repository: str = "model_repository"
    """Model repository that they serve: a folder, or an address such as s3://bucket/models."""
    model: str = DEFAULT_MODEL
    """The task's ensemble, the model that takes photos."""
    selector: str = ""
    """Which servers, if Prometheus scrapes others, too: PromQL's matchers, such as
    'namespace="production"'."""
    json: bool = False
    """Print one JSON document instead of words."""
    picture: Path | None = None
    """File for a picture of what moved, or if nothing did of everything: PNG, JPEG or WebP."""
    metrics_port: int | None = None
    """Keep judging, at each scrape of this port, for alerts; 0 chooses a free one."""
    metrics_address: str = "127.0.0.1"
    """IP address of that port; 0.0.0.0 for all of this machine's."""


def drift(settings: DriftSettings) -> int:
    """Judge once and print what was found, or keep judging until a signal.

    Returns:
        The exit code, one of EXIT_CODES.

    Raises:
        ServingError: Prometheus or the repository does not answer, or an option makes no sense.
    """
    parse_seconds(settings.window)  # a wrong option ends it, whatever else comes does not
    Prometheus(settings.prometheus)
    if settings.metrics_port is not None:
        if settings.json or settings.picture:
            raise DriftError("--json and --picture are of use only without --metrics-port")
        address = settings.metrics_address, settings.metrics_port
        export_verdicts(lambda: judge_drift(settings), *address)
        return 0
    verdict = judge_drift(settings)
    print(format_json(verdict) if settings.json else format_words(verdict))
    if settings.picture and verdict.findings:
        draw_findings(verdict.moved or verdict.findings, settings.picture)
    return EXIT_CODES[verdict.word]


def judge_drift(settings: DriftSettings) -> Verdict:
    """What can be told now.

    Raises:
        ServingError: Prometheus or the repository does not answer.
    """
    verdict = Verdict()
    try:
        _fill_in(verdict, settings)
    except UntoldError as error:
        verdict.doubts.append(str(error))
    return verdict


def _fill_in(verdict: Verdict, settings: DriftSettings) -> None:
    most, prometheus = parse_seconds(settings.window), Prometheus(settings.prometheus)
    store = open_store(settings.repository)
    repository, record = open_repository(store, settings.model), read_record(store, settings.model)
    selector = f",{settings.selector}" if settings.selector else ""
    window = find_window(prometheus, selector, repository, record, most)
    verdict.version, verdict.seconds = window.live, window.seconds
    reference = read_reference(record, window.live)
    labels = f'model=~"{"|".join(repository.task.models)}"{selector}'
    live = read_live(prometheus, labels, max(1, window.seconds))
    if not live:
        check_scraped(prometheus, labels)
    if window.seconds < most:
        verdict.notes.append("the window begins at the last change of what is served")
    out = _leave_out(verdict, window, repository, reference)
    live, known = (
        {statistic: each[statistic] for statistic in each if statistic.name not in out}
        for each in (live, reference.samples)
    )
    judge_samples(verdict, live, known)


def _leave_out(
    verdict: Verdict, window: Window, repository: Repository, reference: Reference
) -> tuple[str, ...]:
    """Which statistics cannot be compared; the verdict says why."""
    served = read_thresholds(map(repository.config, repository.task.models))
    if window.canary:
        verdict.notes.append(
            f"version {window.canary} is a canary, and its detections are counted among those of "
            f"version {window.live}: only images are judged"
        )
    elif served != reference.thresholds:
        verdict.doubts.append(
            f"detections cannot be compared: the reference was measured with "
            f"{_list_thresholds(reference.thresholds)}, the configuration says "
            f"{_list_thresholds(served)}"
        )
    elif reference.trained_on:
        verdict.notes.append(
            f"version {window.live} was trained on {reference.trained_on} of the "
            f"{reference.images} images of its reference, which gives better scores than live: "
            "scores are not judged"
        )
        return (SCORE,)
    else:
        return ()
    return DETECTION_STATISTICS


def _list_thresholds(thresholds: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in thresholds.items())
