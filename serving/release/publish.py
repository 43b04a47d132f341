"""`serving publish` and `serving canary`: an artifact becomes the next version of a repository.

    read_artifact     artifact.py   the folder is whole, and its network runs
    check_sensible    trial.py      what the network answers makes sense
    lock_store        session.py    nobody else changes the repository meanwhile
    open_session      session.py    the task, the server, and what an interrupted release left
    try_artifact      trial.py      it is not slower than the live version, and not worse
    Rollout.move      rollout.py    placed, loaded, confirmed and recorded

Whatever fails leaves the repository and the server as they were. The first publish of a task has no
live version beside it and makes the task instead (new_task.py).
"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from serving.artifact import Artifact, read_artifact
from serving.errors import PublishError
from serving.history import describe_network, has_calibrated_scores, sign_release
from serving.model_config import read_thresholds
from serving.release.new_task import is_new_task, make_task
from serving.release.rollout import Rollout
from serving.release.session import lock_store, open_session, print_done, remove_old_versions
from serving.release.trial import NO_PATH, TrialSettings, check_sensible, try_artifact
from serving.repository import Repository, State, Task


@dataclass(frozen=True, kw_only=True)
class PublishSettings(TrialSettings):
    """Release an artifact as the next version of a model repository."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """Folder with model.onnx, labels.txt and card.json, as training makes it."""
    new: bool = False
    """Add --model to a repository that exists, as a further task."""


@dataclass(frozen=True, kw_only=True)
class CanarySettings(TrialSettings):
    """Run an artifact beside the live version, for a share of the traffic."""

    artifact: Annotated[Path | None, tyro.conf.Positional, NO_PATH] = None
    """Folder of the artifact; none: change the share of the canary that runs."""
    share: float = 0.1
    """Share of the clients that ask for canaries, 0 to 1."""


def publish(settings: PublishSettings) -> None:
    """Check, try, place, and if a server is named load and confirm. Prints what was done.

    Raises:
        ServingError: nothing was changed.
    """
    artifact = read_artifact(settings.artifact)
    check_sensible(artifact)
    with lock_store(settings, f"publish {settings.artifact}") as store:
        _tell_reference(artifact)
        if is_new_task(store, settings, settings.new):
            make_task(store, artifact, settings)
            return
        with open_session(store, settings) as rollout:
            before = rollout.state()
            number = _release(rollout, artifact, settings, before, share=None)
            print_done(rollout, f"version {number} is live, before it {before.live}")
            remove_old_versions(rollout, settings.keep)


def canary(settings: CanarySettings) -> None:
    """Start a canary, or change its share. Prints what was done.

    Raises:
        ServingError: nothing was changed.
    """
    if not 0 <= settings.share <= 1:
        raise PublishError(f"--share must be 0 to 1, found {settings.share}")
    artifact = read_artifact(settings.artifact) if settings.artifact else None
    if artifact:
        check_sensible(artifact)
    purpose = f"canary {settings.artifact or ''}"
    with lock_store(settings, purpose) as store, open_session(store, settings) as rollout:
        before = rollout.state()
        if artifact:
            _tell_reference(artifact)
            number = _release(rollout, artifact, settings, before, settings.share)
        else:
            number = _change_share(rollout, settings, before)
        words = f"version {number} is a canary for {settings.share:.0%} of the clients that ask"
        print_done(rollout, f"{words}, version {before.live} stays live")
        remove_old_versions(rollout, settings.keep)


def _tell_reference(artifact: Artifact) -> None:
    """Say it where the version's drift cannot be judged, which stops nothing."""
    if artifact.reference is None:
        print(
            f"{artifact.network.parent}/card.json has no reference: drift cannot be judged for "
            "this version; export the artifact again to have one"
        )


def _tell_scores(artifact: Artifact, repository: Repository, live: int) -> None:
    """Say it where scores mean something else, or are cut elsewhere, which stops nothing."""
    served = read_thresholds(map(repository.config, repository.task.models))
    by_class, wanted = served.get("score_thresholds", []), list(artifact.score_thresholds)
    if wanted != by_class:
        print(
            f"card.json wants score_thresholds {wanted or 'of no class'}, the service stays with "
            f"{by_class or served.get('score_threshold')}: postprocess/config.pbtxt has them"
        )
    networks = artifact.network.read_bytes(), repository.read_network(live)
    is_calibrated = [has_calibrated_scores(network) for network in networks]
    if is_calibrated[0] != is_calibrated[1]:
        words = ["not calibrated", "calibrated"]
        print(
            f"its scores are {words[is_calibrated[0]]}, the live version's are "
            f"{words[is_calibrated[1]]}: a client's score_threshold shows other boxes"
        )


def _release(
    rollout: Rollout,
    artifact: Artifact,
    settings: TrialSettings,
    before: State,
    share: float | None,
) -> int:
    """Try an artifact and make it live, or a canary if a share is given. Returns its version."""
    task = rollout.task
    if before.canary is not None:
        raise PublishError(
            f"version {before.canary} is a canary of {task.ensemble}: promote it or roll it back "
            "first"
        )
    _check_same_task(artifact, task, settings.repository)
    measured = try_artifact(rollout.repository, before.live, artifact, settings)
    _tell_scores(artifact, rollout.repository, before.live)
    network = artifact.network.read_bytes()
    number = rollout.next_number()
    after = State(number) if share is None else State(before.live, number, share)
    facts = describe_network(network, artifact.reference) | measured | sign_release()
    rollout.move(before, after, network, facts)
    return number


def _change_share(rollout: Rollout, settings: CanarySettings, before: State) -> int:
    """Give the canary that runs another share. Returns its version."""
    if before.canary is None:
        raise PublishError(
            f"{settings.repository} runs no canary of {settings.model}: name the artifact"
        )
    rollout.move(before, replace(before, share=settings.share))
    return before.canary


def _check_same_task(artifact: Artifact, task: Task, repository: str) -> None:
    """A task has one label list and one set of sizes."""
    remedy = "another task is another --repository, or another --model with --new"
    labels = task.labels
    if labels != artifact.labels and sorted(labels) == sorted(artifact.labels):
        remedy = f"train in that order: python -m training records --labels {shlex.join(labels)}"
    if labels != artifact.labels:
        raise PublishError(
            f"{task.ensemble} in {repository} has the labels {', '.join(labels)}, the artifact has "
            f"{', '.join(artifact.labels)}: {remedy}"
        )
    has, wants = task.signature.resize, artifact.signature.resize
    if has != wants:
        raise PublishError(
            f"{task.ensemble} in {repository} resizes photos by {has}, the artifact was trained "
            f"with --resize {wants}: {remedy}"
        )
    if task.signature != artifact.signature:
        raise PublishError(
            f"{task.ensemble} in {repository} has {task.signature}, the artifact has "
            f"{artifact.signature}: {remedy}"
        )
