"""A Triton of our own, which runs versions before anything is placed and leaves nothing behind."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from serving.artifact import Artifact
from serving.control import sample_photo
from serving.errors import (
    CompareError,
    PrerequisiteError,
    PublishError,
    RefusedError,
    StartError,
)
from serving.history import Record
from serving.release.comparison import Comparison, Side, compare_models
from serving.release.deployment import Deployment
from serving.release.evaluation import EvaluationSet
from serving.release.rollout import Rollout
from serving.release.servers import Servers
from serving.repository import Repository, State
from serving.server.prerequisites import check_machine
from serving.server.server import EmbeddedServer, ServerSettings
from serving.server.shared_memory import Region
from serving.store.address import open_store
from serving.store.base import CONFIG
from serving.template import TEMPLATE, render_template

WAY_ON = "--no-private-server leaves out the trial that needs it, and mAP"


def compare_privately(
    repository: Repository, live: int, artifact: Artifact, evaluations: Sequence[EvaluationSet]
) -> list[Comparison]:
    """Both versions side by side in a Triton of our own, which leaves nothing behind.

    Returns:
        A comparison for each evaluation set; without any one on two generated photos.

    Raises:
        PublishError: the candidate does not load there.
        RefusedError: it fails on a photo.
        PrerequisiteError: this machine cannot run the embedded server.
    """
    task = repository.task
    with make_private_folder() as folder:
        _copy_privately(repository, live, artifact, folder / "models")
        photos = [] if evaluations else _write_samples(folder)
        with _start_private_server(folder / "models") as server:
            names = server.grpc_url, task.ensemble, task.canary
            sets: Sequence[EvaluationSet | None] = evaluations or [None]
            compared = [compare_models(*names, photos, each) for each in sets]
    for found in compared:
        if found.stable.failures:
            print(f"the live version {_describe_failures(found.stable)}")
        if found.candidate.failures:
            raise RefusedError(f"in a private Triton it {_describe_failures(found.candidate)}")
    return compared


def try_new_task(artifact: Artifact, ensemble: str) -> None:
    """A new task in a Triton of our own, which starts once a photo went through it.

    Raises:
        PublishError: it does not.
        PrerequisiteError: this machine cannot run the embedded server.
    """
    with make_private_folder() as folder:
        render_template(TEMPLATE, artifact, folder / "models", ensemble)
        with _start_private_server(folder / "models"):
            return


@contextmanager
def make_private_folder(way_on: str = f"; {WAY_ON}") -> Iterator[Path]:
    """A folder that goes with the context; if we are killed, with the next server's start.

    Args:
        way_on: ends the sentence about a machine that cannot run the embedded server.
    """
    try:
        check_machine()  # else there may be no /dev/shm
    except PrerequisiteError as error:
        raise PrerequisiteError(f"{error}{way_on}") from None
    region = Region()
    region.claim()
    try:
        yield region.folder
    finally:
        region.release()


@contextmanager
def _start_private_server(repository: Path) -> Iterator[EmbeddedServer]:
    """A server of our own, and what goes wrong there as a refusal."""
    # A key of its own: the one in the environment may be another server's.
    settings = ServerSettings(repository, admin_key=secrets.token_hex(16))
    try:
        with EmbeddedServer(settings) as server:
            yield server
    except (StartError, CompareError) as error:
        raise PublishError(f"in a private Triton: {error}") from None


def _copy_privately(repository: Repository, live: int, artifact: Artifact, folder: Path) -> None:
    """A repository of the task alone, with the artifact as its canary."""
    store, task = repository.store, repository.task
    network = [f"{task.network}/{CONFIG}", task.version_folder(live)]
    others = [model for model in task.models if model != task.network]
    store.fetch(folder, [*network, *others])
    private = Repository(open_store(folder), task)
    with private.store.lock("trial"):
        rollout = Rollout(Deployment(private, Servers({})), Record())
        canary = State(live, canary=rollout.next_number())
        rollout.move(State(live), canary, artifact.network.read_bytes())


def _write_samples(folder: Path) -> list[Path]:
    """Two generated photos."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    samples = {"disc.jpg": sample_photo(), "noise.png": bytes(cv2.imencode(".png", noise)[1])}
    for name, photo in samples.items():
        (folder / name).write_bytes(photo)
    return [folder / name for name in samples]


def _describe_failures(side: Side) -> str:
    """How many photos one of the two failed on, and why on the first."""
    return f"fails on {side.failures} of {side.requests} photos, first: {side.first_error}"
