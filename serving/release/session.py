"""What every release begins with: the lock, the task, the server, the last one's remains."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from serving.control import Control
from serving.errors import PublishError, first_line
from serving.history import read_record, write_record
from serving.release.deployment import Deployment
from serving.release.rollout import Rollout
from serving.repository import DEFAULT_MODEL, Task, open_repository
from serving.store.address import open_store
from serving.store.base import Store

KEEP = 5  # versions


@dataclass(frozen=True, kw_only=True)
class ReleaseSettings:
    """Where a release happens."""

    repository: str
    """Model repository: a folder, or an address such as s3://bucket/models."""
    model: str = DEFAULT_MODEL
    """The task's ensemble, the model that takes photos."""
    url: str = ""
    """Host and gRPC port of the running server, e.g. 127.0.0.1:8001. Without it the change waits
    for the server's next start, or for `up --watch`."""
    admin_key: str = ""
    """That server's admin key; empty: the environment variable TRITON_ADMIN_KEY."""


@contextmanager
def lock_store(settings: ReleaseSettings, purpose: str) -> Iterator[Store]:
    """The model repository, locked.

    Args:
        settings: where it lies.
        purpose: told to others who want to change it meanwhile.

    Raises:
        BusyError: another publisher is at work.
        StoreError: the address is malformed, or the store does not answer.
    """
    store = open_store(settings.repository)
    with store.lock(purpose):
        yield store


@contextmanager
def open_session(store: Store, settings: ReleaseSettings) -> Iterator[Rollout]:
    """Open the task of a locked repository, connect, and put right what a killed publisher left.

    Raises:
        ServingError: there is no such task, or the repository or the server does not answer.
    """
    repository = open_repository(store, settings.model)
    record = read_record(store, settings.model)
    with connect(settings) as control:
        if control:
            _check_server(control, settings.url, repository.task)
        try:
            rollout = Rollout(Deployment(repository, control), record)
            rollout.recover()
            yield rollout
        except InferenceServerException as error:
            raise PublishError(f"{settings.url} failed: {first_line(error)}") from None


@contextmanager
def connect(settings: ReleaseSettings) -> Iterator[Control | None]:
    """A connection to the named server, None where none is named."""
    if not settings.url:
        yield None
        return
    key = settings.admin_key or os.environ.get("TRITON_ADMIN_KEY", "")
    with Control(settings.url, key) as control:
        yield control


def _check_server(control: Control, url: str, task: Task) -> None:
    """The server answers, accepts the key and has the task's models."""
    try:
        ready = control.models("READY")
    except InferenceServerException as error:
        raise PublishError(
            f"{url} does not accept this command: {error.message()}. Start a server with "
            "`python -m serving up`, and give the key that it prints with --admin-key"
        ) from None
    if missing := {task.network, task.ensemble} - set(ready):
        raise PublishError(
            f"{url} serves no model {', '.join(sorted(missing))}, only "
            f"{', '.join(dict.fromkeys(ready)) or 'nothing'}: does it serve this repository?"
        )


def remove_old_versions(rollout: Rollout, keep: int) -> None:
    """Remove old versions, but none that is live, was so before, or is pinned by an ensemble.

    Args:
        rollout: the task, after its release.
        keep: how many of the newest versions stay.
    """
    repository, record = rollout.repository, rollout.record
    live, there = repository.state().live, repository.versions()
    needed = {live, *record.lived[-2:], *repository.users(live), *there[-keep:]}
    old = [version for version in there if version not in needed]
    for version in old:
        repository.remove_version(version)
        record.versions.pop(version, None)
    if old:
        write_record(repository.store, repository.task.ensemble, record)
        print(f"removed: version{'s' if len(old) > 1 else ''} {', '.join(map(str, old))}")


def print_done(settings: ReleaseSettings, done: str) -> None:
    """Say what was done, and whether a server has it."""
    served = (
        f"{settings.url} serves it"
        if settings.url
        else "a server takes it at its next start, or at once with --watch"
    )
    print(f"{settings.model} in {settings.repository}: {done}; {served}")
