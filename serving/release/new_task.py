"""The first publish of a task: it makes the repository, or adds the task to one that exists."""

import re
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from tritonclient.utils import InferenceServerException

from client.canary import SUFFIX as CANARY_SUFFIX
from serving import template
from serving.artifact import Artifact
from serving.control import Control
from serving.errors import PublishError, first_line
from serving.history import (
    Record,
    describe_network,
    read_record,
    read_records,
    sign_release,
    write_record,
)
from serving.release.deployment import INFERENCE_SECONDS, wait_until
from serving.release.private_server import try_new_task
from serving.release.servers import Servers
from serving.release.session import ReleaseSettings, check_servers, connect
from serving.release.trial import TrialSettings
from serving.repository import State, list_models, list_tasks
from serving.store.base import Store

MODEL_NAME = re.compile(r"[A-Za-z0-9_-]+")


def is_new_task(store: Store, settings: ReleaseSettings, wanted: bool) -> bool:
    """Whether the task has still to be made: there is no repository, or it is a further one.

    Args:
        store: the repository.
        settings: names the task.
        wanted: whether a further task was asked for.

    Raises:
        PublishError: it was, and the task is there.
    """
    model, names = settings.model, set(template.name_models(settings.model).values())
    there = {path.split("/")[0] for path in store.files()}
    if there <= names and model not in list_models(store):
        return True  # nothing, or what was left when somebody's first publish was killed
    if _is_half_made(store, model):
        return True
    if wanted and model in there:
        raise PublishError(f"{settings.repository} has {model} already: publish without --new")
    return wanted


def make_task(store: Store, artifact: Artifact, settings: TrialSettings) -> None:
    """Make a repository for the artifact, or add a task to one that exists. Prints what was done.

    Raises:
        ServingError: nothing was changed.
    """
    name, first = settings.model, not list_tasks(store)
    _check_new(store, settings, first)
    if settings.evaluation:
        print("no mAP is measured: there is no live version to compare with")
    with connect(settings) as servers:
        check_servers(servers)
        if settings.url and settings.private_server:
            print("trying it in a private Triton", flush=True)
            try_new_task(artifact, name)
        store.clean()
        _place_and_load(store, artifact, name, servers)
    facts = describe_network(artifact.network.read_bytes(), artifact.reference) | sign_release()
    record = Record({1: facts}, 1, [1])
    record.note_change(None, State(1))
    write_record(store, name, record)
    print(f"made {settings.repository}: {name} for {', '.join(artifact.labels)}, version 1")
    if first:
        print(f"serve it: python -m serving up --repository {shlex.quote(settings.repository)}")


def _is_half_made(store: Store, model: str) -> bool:
    """Whether a publisher was killed while it added this task: a number was given, none lived."""
    record = read_record(store, model)
    return record.highest > 0 and not record.lived and record.unfinished is None


def _check_new(store: Store, settings: ReleaseSettings, first: bool) -> None:
    """A task of this name can be made here."""
    name = settings.model
    if settings.url and first:
        raise PublishError(
            f"{settings.repository} does not exist, so no server serves it: publish without "
            "--url, then start a server over it"
        )
    check_name(name)
    taken = set(template.name_models(name).values()) & set(list_models(store))
    if taken and not first and name not in read_records(store):
        raise PublishError(
            f"{settings.repository} has the models {', '.join(sorted(taken))}, which belong to no "
            f"task {name}: choose another --model"
        )


def check_name(model: str) -> None:
    """A model can be called so. Raises PublishError where it cannot."""
    if not MODEL_NAME.fullmatch(model) or model.endswith(CANARY_SUFFIX):
        raise PublishError(
            f"--model must be letters, digits, _ and -, without {CANARY_SUFFIX} at its end, "
            f"found {model!r}"
        )


def check_template() -> Path:
    """The repository to start from. Raises PublishError where it is missing."""
    if not template.TEMPLATE.is_dir():
        raise PublishError(f"the repository to start from is missing: {template.TEMPLATE}")
    return template.TEMPLATE


def _place_and_load(store: Store, artifact: Artifact, name: str, servers: Servers) -> None:
    """Place a task's models, and have the servers load them."""
    try:
        if list_tasks(store):
            _take_away(store, name, servers)  # what a killed publisher left
            write_record(store, name, Record(highest=1))  # half made until a version was live
        _place_models(store, artifact, name)
        servers.each(lambda control: control.load(name))
        servers.each(lambda control: control.infer(name, INFERENCE_SECONDS))
    except BaseException as error:  # Ctrl-C as well
        _take_away(store, name, servers)
        if isinstance(error, InferenceServerException):
            raise PublishError(f"{first_line(error)}; everything is as it was") from None
        raise


def _place_models(store: Store, artifact: Artifact, name: str) -> None:
    """Make a new repository of the template, or add its models to one as a further task."""
    source = check_template()
    with tempfile.TemporaryDirectory(prefix="repository-") as folder:
        rendered = Path(folder) / "models"
        template.render_template(source, artifact, rendered, name)
        if not list_tasks(store):
            store.create(rendered)
            return
        for model in template.name_models(name).values():
            store.place(model, read_files(rendered / model))


def _take_away(store: Store, name: str, servers: Servers) -> None:
    """Remove the models of a task that is not whole, the ensemble first."""
    take_away(store, [*template.name_models(name).values()], servers)
    write_record(store, name, Record())


def take_away(store: Store, models: Sequence[str], servers: Servers) -> None:
    """Unload and remove models that are not whole, the last one first."""
    for model in reversed(models):
        servers.each(partial(_unload, model))
        store.remove(model)


def _unload(model: str, control: Control) -> None:
    """Unload a model, and wait until no version of it runs any more."""
    with suppress(InferenceServerException):  # the user was told why
        control.unload(model)
        wait_until(lambda: not control.versions(model, "READY", "UNLOADING"))


def read_files(folder: Path) -> dict[str, bytes]:
    """The contents of a folder's files, by path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
