"""`serving publish` and `serving canary`: an artifact becomes the next version of a repository.

It is tried first (trial.py), then placed, loaded and confirmed (rollout.py). Whatever fails leaves
the repository and the server as they were.
"""

import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from tritonclient.utils import InferenceServerException

from serving import history
from serving import repository as layout
from serving.artifact import Artifact, read_artifact
from serving.control import Control
from serving.errors import MissingFileError, PublishError, first_line
from serving.history import Record
from serving.release import trial
from serving.release.evaluation import EvaluationSet, held_out, read_evaluation
from serving.release.rollout import INFERENCE_SECONDS, Switch, wait_until
from serving.release.session import (
    KEEP,
    ReleaseSettings,
    begin,
    begin_locked,
    connect,
    prune,
    tell,
    tell_removed,
)
from serving.repository import State, Task
from serving.store.address import open_store
from serving.store.base import Store

MODEL_NAME = re.compile(r"[A-Za-z0-9_-]+")
NO_PATH = tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: none)")


@dataclass(frozen=True, kw_only=True)
class TrialSettings(ReleaseSettings):
    """How an artifact is tried before it is placed."""

    evaluation: Annotated[Path | None, NO_PATH] = None
    """COCO JSON of annotated photos: mAP is compared with the live version's."""
    images: Annotated[Path | None, NO_PATH] = None
    """Folder of those photos, if not the JSON's own."""
    map_tolerance: float = 0.01
    """By how much mAP@0.5 may be lower than the live version's, 0 to 1."""
    slowdown: float = 1.5
    """By which factor the network may be slower than the live version's."""
    private_server: bool = True
    """Run both versions in a private Triton first; needs what `serving up` needs."""
    keep: int = KEEP
    """Versions that stay. The live one, the one before it and pinned ones stay in any case."""


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
    trial.check_sensible(artifact)
    store = open_store(settings.repository)
    with store.lock(f"publish {settings.artifact}"):
        if is_new(store, settings):
            make_task(store, artifact, settings)
        else:
            with begin_locked(store, settings) as switch:
                before = switch.state()
                number = release(switch, artifact, settings, before, share=None)
                tell(settings, f"version {number} is live, before it {before.live}")
                tell_removed(prune(switch, settings.keep))


def canary(settings: CanarySettings) -> None:
    """Start a canary, or change its share. Prints what was done.

    Raises:
        ServingError: nothing was changed.
    """
    if not 0 <= settings.share <= 1:
        raise PublishError(f"--share must be 0 to 1, found {settings.share}")
    artifact = read_artifact(settings.artifact) if settings.artifact else None
    with begin(settings, f"canary {settings.artifact or ''}") as switch:
        before = switch.state()
        if artifact:
            trial.check_sensible(artifact)
            number = release(switch, artifact, settings, before, settings.share)
        elif before.canary is None:
            raise PublishError(
                f"{settings.repository} runs no canary of {settings.model}: name the artifact"
            )
        else:
            number = before.canary
            switch.run(before, replace(before, share=settings.share))
        words = f"version {number} is a canary for {settings.share:.0%} of the clients that ask"
        tell(settings, f"{words}, version {before.live} stays live")
        tell_removed(prune(switch, settings.keep))


def release(
    switch: Switch, artifact: Artifact, settings: TrialSettings, before: State, share: float | None
) -> int:
    """Try an artifact and make it live, or a canary if a share is given. Returns its version."""
    if before.canary is not None:
        raise PublishError(
            f"version {before.canary} is a canary of {switch.task.ensemble}: promote it or roll it "
            "back first"
        )
    check_same_task(artifact, switch.task, settings.repository)
    network = artifact.network.read_bytes()
    tried = try_artifact(switch, artifact, settings, before.live)
    number = switch.next_number()
    after = State(number) if share is None else State(before.live, number, share)
    switch.run(before, after, network, history.describe(network) | tried | history.stamp())
    return number


def try_artifact(
    switch: Switch, artifact: Artifact, settings: TrialSettings, live: int
) -> dict[str, Any]:
    """The trials. Returns what they measured, for the record."""
    store, task = switch.store, switch.task
    evaluation = read_set(settings, task.labels)
    try:
        stable = store.read(task.network_file(live))
    except MissingFileError:
        raise PublishError(
            f"version {live} is live, but {settings.repository} does not hold it: does the server "
            "serve this repository?"
        ) from None
    candidate = artifact.network.read_bytes()
    if evaluation:
        photos = len(evaluation.photos)
        trained_on = history.trained_on(candidate) | history.trained_on(stable)
        evaluation = held_out(evaluation, trained_on)
        if left_out := photos - len(evaluation.photos):
            print(f"{left_out} of {photos} photos are left out: one of the two was trained on them")
    speed = trial.check_speed(candidate, stable, task.signature.images, settings.slowdown)
    print(f"speed: {speed}")
    if not settings.private_server:
        return {}
    print("trying it beside the live version in a private Triton", flush=True)
    found = trial.run_privately(store, task, live, artifact, evaluation)
    trial.check_accuracy(found, settings.map_tolerance)
    if evaluation is None or found.candidate.metrics is None or found.stable.metrics is None:
        return {}
    new, old = found.candidate.metrics, found.stable.metrics
    print(f"mAP@0.5 {new.map50:.3f}, the live version {old.map50:.3f}, on {new.images} photos")
    return {
        "mAP@0.5": new.map50,
        "mAP@[.5:.95]": new.map,
        "evaluation": {"set": evaluation.source.name, "photos": new.images},
    }


def read_set(settings: TrialSettings, labels: tuple[str, ...]) -> EvaluationSet | None:
    """The evaluation set, if one is named and fits the settings."""
    if settings.evaluation is None:
        return None
    if not settings.private_server:
        raise PublishError("--evaluation needs the private server: leave out --no-private-server")
    evaluation = read_evaluation(settings.evaluation, settings.images)
    evaluation.check_labels(labels)
    return evaluation


def is_new(store: Store, settings: PublishSettings) -> bool:
    """Whether the task has still to be made: there is no repository, or --new asks for it."""
    names = layout.names(settings.model)
    there = {path.split("/")[0] for path in store.files()}
    if there <= set(names.values()) and settings.model not in layout.models(store):
        return True  # nothing, or what was left when somebody's first publish was killed
    if half_made(store, settings.model):
        return True
    if settings.new and settings.model in there:
        raise PublishError(
            f"{settings.repository} has {settings.model} already: publish without --new"
        )
    return settings.new


def half_made(store: Store, model: str) -> bool:
    """Whether a publisher was killed while it added this task: a number was given, none lived."""
    record = history.read(store, model)
    return record.highest > 0 and not record.lived and record.unfinished is None


def make_task(store: Store, artifact: Artifact, settings: PublishSettings) -> None:
    """Make a repository for the artifact, or add a task to one that exists."""
    name, first = settings.model, not layout.tasks(store)
    check_new(store, settings, first)
    if settings.evaluation:
        print("no mAP is measured: there is no live version to compare with")
    if settings.url and settings.private_server:
        print("trying it in a private Triton", flush=True)
        trial.start_privately(artifact, name)
    store.clean()
    with connect(settings) as control:
        place_task(store, artifact, name, control)
    facts = history.describe(artifact.network.read_bytes()) | history.stamp()
    history.write(store, name, Record({1: facts}, highest=1, lived=[1]))
    print(f"made {settings.repository}: {name} for {', '.join(artifact.labels)}, version 1")
    if first:
        print(f"serve it: python -m serving up --repository {shlex.quote(settings.repository)}")


def check_new(store: Store, settings: PublishSettings, first: bool) -> None:
    """A task of this name can be made here."""
    name = settings.model
    if settings.url and first:
        raise PublishError(
            f"{settings.repository} does not exist, so no server serves it: publish without "
            "--url, then start a server over it"
        )
    if not MODEL_NAME.fullmatch(name) or name.endswith(layout.CANARY_SUFFIX):
        raise PublishError(
            f"--model must be letters, digits, _ and -, without {layout.CANARY_SUFFIX} at its end, "
            f"found {name!r}"
        )
    taken = set(layout.names(name).values()) & set(layout.models(store))
    if taken and not first and name not in history.read_all(store):
        raise PublishError(
            f"{settings.repository} has the models {', '.join(sorted(taken))}, which belong to no "
            f"task {name}: choose another --model"
        )


def place_task(store: Store, artifact: Artifact, name: str, control: Control | None) -> None:
    """Place a task's models, and have the server load them, if there is one."""
    try:
        if layout.tasks(store):
            take_away(store, name, control)  # what a killed publisher left
            history.write(store, name, Record(highest=1))  # half made until it lived
        layout.make(store, artifact, name)
        if control:
            control.load(name)
            control.infer(name, INFERENCE_SECONDS)
    except BaseException as error:  # Ctrl-C as well
        take_away(store, name, control)
        if isinstance(error, InferenceServerException):
            raise PublishError(f"{first_line(error)}; everything is as it was") from None
        raise


def take_away(store: Store, name: str, control: Control | None) -> None:
    """Remove the models of a task that is not whole, the ensemble first."""
    for model in reversed(layout.names(name).values()):
        if control:
            with suppress(InferenceServerException):  # it was told why
                control.unload(model)
                wait_until(partial(is_unloaded, control, model))
        store.remove(model)
    history.write(store, name, Record())


def is_unloaded(control: Control, model: str) -> bool:
    """Whether no version of a model runs any more."""
    return not control.versions(model, "READY", "UNLOADING")


def check_same_task(artifact: Artifact, task: Task, repository: str) -> None:
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
    if task.signature != artifact.signature:
        raise PublishError(
            f"{task.ensemble} in {repository} has {task.signature}, the artifact has "
            f"{artifact.signature}: {remedy}"
        )
