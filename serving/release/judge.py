"""`serving judge`: the canary is watched for a while, then promoted or rolled back.

    compare_models   comparison.py   on photos: agreement with the live version, mAP of both
    read_conduct     below           of what clients send: failures and latency, from Prometheus
    promote, rollback                and releases.json has the figures that decided

What is worse ends the canary at once. What is as good goes on to the end of the time, for an error
may come late. A judge that is killed leaves the canary as it is: the same command begins anew.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from serving.errors import DriftError, PublishError
from serving.monitoring.prometheus import Prometheus
from serving.monitoring.window import parse_seconds
from serving.release.compare import find_photos
from serving.release.comparison import Comparison, compare_models
from serving.release.evaluation import EvaluationSet
from serving.release.promote import PromoteSettings, RollbackSettings, promote, rollback
from serving.release.servers import read_addresses
from serving.release.session import ReleaseSettings
from serving.release.traffic import COUNTED
from serving.release.trial import (
    EvaluationSettings,
    describe_accuracy,
    find_loss,
    read_evaluations,
)
from serving.repository import Repository, open_repository
from serving.store.address import open_store

PROMOTED, ROLLED_BACK, UNDECIDED = 0, 3, 4
LOOK = 15.0  # seconds between two looks at Prometheus
INCREASE = 'sum(increase(nv_inference_{counter}{{model="{model}"{selector}}}[{seconds}s]))'


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(EvaluationSettings):
    """Watch the canary for a while, then promote it or roll it back.

    Exit code: 0 promoted, 3 rolled back, 4 too few requests to decide, 1 an error, 2 wrong usage.
    """

    prometheus: str = "http://127.0.0.1:9090"
    """Address of the Prometheus that scrapes the servers."""
    watch: str = "10m"
    """How long, such as 90s, 10m or 1h."""
    requests: int = 100
    """That the canary must have got in this time; with fewer it stays a canary."""
    failures: float = 0.01
    """Share of the canary's requests that may fail beyond the live version's share, 0 to 1."""
    slowdown: float = 1.5
    """How many times as long as the live version it may take for a request, on average."""
    photos: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PHOTO...")] = ()
    """Image files and folders on which both must agree, and on those of the first --evaluation."""
    agreement: float = 0.7
    """Share of the boxes in these photos that both must find, 0 to 1."""
    selector: str = ""
    """Which servers, if Prometheus scrapes others, too: PromQL's matchers, such as
    'namespace="production"'."""


@dataclass(frozen=True)
class Conduct:
    """How an ensemble has answered its clients.

    Attributes:
        answered: requests.
        failed: requests, for any reason: the client's (no photo), a timeout's, or the server's.
        seconds: that all answered ones took together, inside the server.
    """

    answered: float
    failed: float
    seconds: float

    @property
    def requests(self) -> float:
        """All of them."""
        return self.answered + self.failed

    @property
    def failed_share(self) -> float:
        """0 to 1; 0 where nothing was asked."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def latency_ms(self) -> float:
        """Mean of the answered requests; 0 without any."""
        return 1000 * self.seconds / self.answered if self.answered else 0.0


@dataclass
class Watch:
    """A canary that is watched."""

    settings: JudgeSettings
    repository: Repository
    canary: int
    prometheus: Prometheus
    began: float = field(default_factory=time.time)

    @property
    def seconds(self) -> int:
        """Since it began."""
        return int(time.time() - self.began)

    def look(self) -> tuple[Conduct, Conduct]:
        """How the live version and the canary have answered so far.

        Raises:
            DriftError: Prometheus does not answer.
            PublishError: it is no canary any more.
        """
        state, task = self.repository.state(), self.repository.task
        if state.canary != self.canary:
            raise PublishError(
                f"version {self.canary} is no canary of {task.ensemble} any more, somebody else "
                f"decided: {state}"
            )
        selector = f",{self.settings.selector}" if self.settings.selector else ""
        live, canary = (
            read_conduct(self.prometheus, model, selector, max(1, self.seconds))
            for model in (task.ensemble, task.canary)
        )
        return live, canary


def judge(settings: JudgeSettings) -> int:
    """Watch the canary, and decide. Prints what was found and done.

    Returns:
        The exit code, PROMOTED, ROLLED_BACK or UNDECIDED.

    Raises:
        ServingError: there is no canary, or what it takes to judge it is missing; it stays one.
    """
    seconds, prometheus = parse_seconds(settings.watch, "--watch"), Prometheus(settings.prometheus)
    repository, canary = _find_canary(settings)
    prometheus.find_value("vector(1)")  # one that is not there is told before all else
    found = _compare(settings, repository, canary)
    fault, why = find_difference(settings, found), describe_comparisons(found)
    if not fault:
        watch = Watch(settings, repository, canary, prometheus)
        live, conduct = _watch(watch, seconds)
        why = f"{describe_conduct(live, conduct, watch.seconds)}, {why}"
        fault = find_fault(settings, live, conduct)
        if not fault and conduct.requests < settings.requests:
            print(f"too few requests to decide, {settings.requests} needed: {why}")
            return UNDECIDED
    names = (each.name for each in fields(ReleaseSettings))
    where: dict[str, Any] = {name: getattr(settings, name) for name in names}
    if fault:
        print(f"version {canary} is rolled back: {fault}")
        rollback(RollbackSettings(**where), f"judge: {fault}; {why}")
        return ROLLED_BACK
    print(f"version {canary} is promoted: {why}")
    promote(PromoteSettings(version=canary, **where), f"judge: {why}")
    return PROMOTED


def read_conduct(prometheus: Prometheus, model: str, selector: str, seconds: int) -> Conduct:
    """How an ensemble has answered in the last seconds, on all servers.

    Raises:
        DriftError: Prometheus does not answer.
    """
    answered, failed, microseconds = (
        prometheus.find_value(
            INCREASE.format(counter=counter, model=model, selector=selector, seconds=seconds)
        )
        or 0.0
        for counter in ("request_success", "request_failure", "request_duration_us")
    )
    return Conduct(answered, failed / COUNTED, microseconds / 1e6)


def find_fault(settings: JudgeSettings, live: Conduct, canary: Conduct) -> str:
    """What is too bad in the canary's answers; empty: nothing, or too few to tell."""
    if canary.requests < settings.requests:
        return ""
    more = canary.failed_share - live.failed_share
    if more > settings.failures:
        return (
            f"{canary.failed_share:.1%} of its requests failed, of the live version's "
            f"{live.failed_share:.1%}; {settings.failures:.1%} more allowed (--failures)"
        )
    if live.latency_ms and canary.latency_ms > settings.slowdown * live.latency_ms:
        return (
            f"it takes {canary.latency_ms:.1f} ms for a request, the live version "
            f"{live.latency_ms:.1f}; {settings.slowdown:g} times as long allowed (--slowdown)"
        )
    return ""


def find_difference(settings: JudgeSettings, compared: Sequence[Comparison]) -> str:
    """What is too bad in the canary's answers to photos; empty: nothing."""
    for found in compared:
        if found.candidate.failures > found.stable.failures:
            return (
                f"{found.candidate.failures} of {found.candidate.requests} photos failed, the live "
                f"version's {found.stable.failures}: {found.candidate.first_error}"
            )
    found = compared[0]
    if found.agreement is not None and found.agreement < settings.agreement:
        return (
            f"both found {found.agreement:.1%} of the boxes; {settings.agreement:.1%} expected "
            "(--agreement)"
        )
    return find_loss(compared, settings.map_tolerance)


def describe_conduct(live: Conduct, canary: Conduct, seconds: int) -> str:
    """Both, in words."""
    return (
        f"{canary.requests:.0f} requests in {seconds} s, {canary.failed_share:.1%} failed (live "
        f"{live.failed_share:.1%}), {canary.latency_ms:.1f} ms (live {live.latency_ms:.1f})"
    )


def describe_comparisons(compared: Sequence[Comparison]) -> str:
    """What both found in photos, in words."""
    found, words = compared[0], "no photo answered by both"
    if found.agreement is not None:
        words = f"agreement {found.agreement:.1%} on {found.stable.requests} photos"
    return ", ".join([words, *describe_accuracy(compared)])


def _find_canary(settings: JudgeSettings) -> tuple[Repository, int]:
    """Where it is, and its version."""
    if not settings.url:
        raise PublishError("a canary answers on a server: name it with --url")
    if not settings.photos and not settings.evaluation:
        raise PublishError("name --photos on which both must agree, or an --evaluation set")
    repository = open_repository(open_store(settings.repository), settings.model)
    canary = repository.state().canary
    if canary is None:
        raise PublishError(f"{settings.repository} runs no canary of {settings.model} to judge")
    return repository, canary


def _compare(settings: JudgeSettings, repository: Repository, canary: int) -> list[Comparison]:
    """On photos, those that neither version was trained on where they are annotated.

    Returns:
        One for each evaluation set, the first of the other photos, too.
    """
    task = repository.task
    versions = (canary, repository.state().live) if settings.evaluation else ()
    networks = map(repository.read_network, versions)
    sets: Sequence[EvaluationSet | None]
    sets = read_evaluations(settings, task.labels, *networks) or [None]
    names = ",".join(read_addresses(settings.url)), task.ensemble, task.canary
    return [
        compare_models(*names, [] if place else find_photos(settings.photos), each)
        for place, each in enumerate(sets)
    ]


def _watch(watch: Watch, seconds: int) -> tuple[Conduct, Conduct]:
    """Until the time is over, or something is too bad already."""
    found = Conduct(0, 0, 0), Conduct(0, 0, 0)
    with tqdm(total=seconds, unit="s", disable=None, leave=False) as bar:
        while watch.seconds < seconds:
            time.sleep(min(LOOK, seconds / 10))
            bar.update(watch.seconds - bar.n)
            try:
                found = watch.look()
            except DriftError as error:  # perhaps it comes back
                bar.write(str(error))
                continue
            bar.set_postfix_str(describe_conduct(*found, watch.seconds))
            if find_fault(watch.settings, *found):
                return found
    return watch.look()
