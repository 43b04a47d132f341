"""What every release begins with: the lock, the task, the server, the last one's remains."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from serving import history
from serving.control import Control
from serving.errors import PublishError, first_line
from serving.release.rollout import Switch
from serving.repository import DEFAULT_MODEL, Task, holders, read_state, read_task, versions
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
def begin(settings: ReleaseSettings, purpose: str) -> Iterator[Switch]:
    """Lock the repository, read the task, connect, and put right what a killed publisher left.

    Raises:
        ServingError: another publisher is at work, the repository or the server does not answer.
    """
    store = open_store(settings.repository)
    with store.lock(purpose), begin_locked(store, settings) as switch:
        yield switch


@contextmanager
def begin_locked(store: Store, settings: ReleaseSettings) -> Iterator[Switch]:
    """The same for a repository that is locked already."""
    task = read_task(store, settings.model)
    record = history.read(store, task.ensemble)
    with connect(settings) as control:
        if control:
            check_server(control, settings.url, task)
        try:
            switch = Switch(store, task, record, control)
            switch.recover()
            yield switch
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


def check_server(control: Control, url: str, task: Task) -> None:
    """The server answers, accepts the key and has the task's models."""
    try:
        ready = control.models("READY")
    except InferenceServerException as error:
        raise PublishError(
            f"{url} is no server that takes orders: {error.message()}. Start one with "
            "`python -m serving up`, and give the key that it prints with --admin-key"
        ) from None
    if missing := {task.network, task.ensemble} - set(ready):
        raise PublishError(
            f"{url} serves no model {', '.join(sorted(missing))}, only "
            f"{', '.join(dict.fromkeys(ready)) or 'nothing'}: does it serve this repository?"
        )


def prune(switch: Switch, keep: int) -> list[int]:
    """Remove old versions, but none that is live, was so before, or is pinned by an ensemble.

    Args:
        switch: the task, after its release.
        keep: how many of the newest versions stay.

    Returns:
        The versions that were removed.
    """
    store, task, record = switch.store, switch.task, switch.record
    live = read_state(store, task).live
    there = versions(store, task)
    needed = {live, *record.lived[-2:], *holders(store, task, live), *there[-keep:]}
    old = [version for version in there if version not in needed]
    for version in old:
        store.remove(task.version_folder(version))
        record.versions.pop(version, None)
    if old:
        history.write(store, task.ensemble, record)
    return old


def tell(settings: ReleaseSettings, done: str) -> None:
    """What was done, and whether a server has it."""
    served = (
        f"{settings.url} serves it"
        if settings.url
        else "a server takes it at its next start, or at once with --watch"
    )
    print(f"{settings.model} in {settings.repository}: {done}; {served}")


def tell_removed(removed: list[int]) -> None:
    """Which old versions went."""
    if removed:
        plural = "s" if len(removed) > 1 else ""
        print(f"removed: version{plural} {', '.join(map(str, removed))}")
