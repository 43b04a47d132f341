"""`serving publish`: an artifact becomes the next version of a repository, or a new repository.

Everything is checked before, and prepared beside the repository; one rename makes it visible. So
a running server never sees half a version, and a refused artifact leaves no trace.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tritonclient.utils import InferenceServerException

from serving import repository as layout
from serving.artifact import Artifact, read_artifact
from serving.control import Control
from serving.errors import PublishError


@dataclass(frozen=True)
class PublishSettings:
    """Release an artifact."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """Folder with model.onnx, labels.txt and card.json, as training makes it."""
    repository: Path
    """Model repository; made from the shipped one if it does not exist."""
    url: str = ""
    """Host and gRPC port of a running server that shall load the version, e.g. 127.0.0.1:8001."""
    admin_key: str = ""
    """That server's admin key; empty: the environment variable TRITON_ADMIN_KEY."""


def publish(settings: PublishSettings) -> None:
    """Check, place, and if a server is named load and confirm. Prints what was done.

    Raises:
        PublishError: nothing was changed.
    """
    artifact = read_artifact(settings.artifact)
    try:
        if settings.repository.exists():
            add_version(artifact, settings)
        else:
            make_repository(artifact, settings)
    except OSError as error:
        raise PublishError(f"{error.filename or settings.repository}: {error.strerror}") from None


def make_repository(artifact: Artifact, settings: PublishSettings) -> None:
    """Render a repository for the artifact's labels and sizes."""
    if settings.url:
        raise PublishError(
            f"{settings.repository} does not exist, so no server serves it: publish without "
            "--url, then start a server over it"
        )
    if not layout.TEMPLATE.is_dir():
        raise PublishError(f"the repository to start from is missing: {layout.TEMPLATE}")
    with prepare(settings.repository) as folder:
        layout.render(layout.TEMPLATE, artifact, folder / "repository")
        (folder / "repository").rename(settings.repository)
    print(f"made {settings.repository} for {', '.join(artifact.labels)}: ssd version 1")
    print(f"serve it: python -m serving up --repository {settings.repository}")


def add_version(artifact: Artifact, settings: PublishSettings) -> None:
    """Add the artifact as the next version of the network."""
    check_same_task(artifact, settings.repository)
    number = layout.next_version(settings.repository)
    version = settings.repository / layout.NETWORK / str(number)
    if settings.url:
        check_server(settings)
    with prepare(settings.repository) as folder:
        layout.place(artifact, folder / "version")
        (folder / "version").rename(version)
        if settings.url:
            load(settings, version, folder)
    print(f"placed {version}" + (f", {settings.url} serves it" if settings.url else ""))


def check_same_task(artifact: Artifact, repository: Path) -> None:
    """A repository is one task: one label list, one set of sizes."""
    remedy = "another task is another repository: name a new one with --repository"
    labels = layout.read_labels(repository)
    if labels != artifact.labels and sorted(labels) == sorted(artifact.labels):
        remedy = f"train in that order: python -m training records --labels {' '.join(labels)}"
    if labels != artifact.labels:
        raise PublishError(
            f"{repository} has the labels {', '.join(labels)}, the artifact has "
            f"{', '.join(artifact.labels)}: {remedy}"
        )
    if (signature := layout.read_signature(repository)) != artifact.signature:
        raise PublishError(
            f"{repository} has {signature}, the artifact has {artifact.signature}: {remedy}"
        )


@contextmanager
def prepare(repository: Path) -> Iterator[Path]:
    """A temporary folder beside the repository: on its file system, outside what Triton reads."""
    parent = repository.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".publish-") as folder:
        yield Path(folder)


def connect(settings: PublishSettings) -> Control:
    """A connection to the named server."""
    return Control(settings.url, settings.admin_key or os.environ.get("TRITON_ADMIN_KEY", ""))


def check_server(settings: PublishSettings) -> None:
    """The server answers, accepts the key and has the network."""
    try:
        with connect(settings) as control:
            models = control.models("READY")
    except InferenceServerException as error:
        raise PublishError(
            f"{settings.url} is no server that takes orders: {error.message()}. Start one with "
            "`python -m serving up`, and give the key that it prints with --admin-key"
        ) from None
    if layout.NETWORK not in models:
        raise PublishError(f"{settings.url} serves no model {layout.NETWORK}, only {models}")


def load(settings: PublishSettings, version: Path, folder: Path) -> None:
    """Have the server load the version; if that fails take it away again."""
    with connect(settings) as control:
        try:
            control.load(layout.NETWORK)
            if not control.has_version(layout.NETWORK, version.name):
                raise PublishError(
                    f"{settings.url} did not load version {version.name}: does it serve "
                    f"{settings.repository}?"
                )
        except (InferenceServerException, PublishError) as error:
            version.rename(folder / "refused")
            restore(control)
            reason = error.message() if isinstance(error, InferenceServerException) else error
            raise PublishError(f"{reason}; version {version.name} was taken away again") from None


def restore(control: Control) -> None:
    """Have the server look again, now that the version is gone."""
    try:
        control.load(layout.NETWORK)
    except InferenceServerException:
        return  # what it served before goes on being served
