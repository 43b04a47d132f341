"""What every release begins with: the lock, the task, the servers, the last one's remains."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from serving.control import Control, find_admin_key
from serving.errors import PublishError, first_line
from serving.history import read_record, write_record
from serving.release.deployment import Deployment
from serving.release.rollout import Rollout
from serving.release.servers import Servers, read_addresses
from serving.repository import DEFAULT_MODEL, open_repository
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
    """Host and gRPC port of the running server, e.g. 127.0.0.1:8001; a,b,c for all that serve the
    repository, @FILE for those in a file, one a line, or dns:HOST:PORT for all addresses of a name.
    Without it the change waits for their next start, or for `up --watch`."""
    admin_key: str = ""
    """The servers' admin key; empty: the environment variable TRITON_ADMIN_KEY, else the content of
    the file TRITON_ADMIN_KEY_FILE."""


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
        ServingError: there is no such task, or the repository or no server answers.
    """
    repository = open_repository(store, settings.model)
    record, task = read_record(store, settings.model), repository.task
    with connect(settings) as servers:
        check_servers(servers, {task.network, task.ensemble})
        try:
            rollout = Rollout(Deployment(repository, servers), record)
            rollout.recover()
            yield rollout
        except InferenceServerException as error:
            raise PublishError(f"{settings.url} failed: {first_line(error)}") from None


@contextmanager
def connect(settings: ReleaseSettings) -> Iterator[Servers]:
    """Connections to the named servers.

    Raises:
        PublishError: an address is malformed.
    """
    urls = read_addresses(settings.url) if settings.url else []
    key = find_admin_key(settings.admin_key)
    with ExitStack() as stack:
        yield Servers({url: stack.enter_context(Control(url, key)) for url in urls})


def check_servers(servers: Servers, needed: Collection[str] = ()) -> None:
    """Each accepts the key and has the models. One that is away is named and left out.

    Raises:
        PublishError: one does not, or none answers. Nothing was changed anywhere.
    """
    for url in servers.leave_out_silent():
        print(
            f"{url} does not answer and is left out: it serves what the repository says as soon as "
            "it starts anew, or by itself if it follows the repository (--watch)"
        )
    for url, control in servers.controls.items():
        _check_server(control, url, needed)


def _check_server(control: Control, url: str, needed: Collection[str]) -> None:
    """The server answers, accepts the key and has the models."""
    try:
        ready = control.models("READY")
    except InferenceServerException as error:
        raise PublishError(
            f"{url} does not accept this command: {error.message()}. Start a server with "
            "`python -m serving up`, and give the key that it prints with --admin-key"
        ) from None
    if missing := set(needed) - set(ready):
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


def print_done(rollout: Rollout, done: str) -> None:
    """Say what was done, and which servers have it."""
    repository, urls = rollout.repository, list(rollout.deployment.servers.controls)
    served = "a server takes it at its next start, or at once with --watch"
    if urls:
        served = f"{', '.join(urls)} serve{'s' if len(urls) == 1 else ''} it"
    print(f"{repository.task.ensemble} in {repository.store.address}: {done}; {served}")
