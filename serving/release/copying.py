"""`serving copy`: a whole repository to another place: a backup, a way back, a move to a bucket."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from serving.errors import PublishError, StoreError
from serving.history import read_published, read_record, read_records
from serving.repository import list_models, list_tasks, open_repository
from serving.store.address import open_store
from serving.store.base import Store


@dataclass(frozen=True)
class CopySettings:
    """Copy a model repository, with all versions and their history, to a place that is empty.

    A backup is a copy, and bringing it back is a copy, too. No release goes on meanwhile; servers
    notice nothing.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Model repository: a folder, or an address such as s3://bucket/models."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """Where it shall lie, likewise. Nothing may be there yet."""


def copy(settings: CopySettings) -> None:
    """Copy, read the copy again, and compare. Prints what was copied.

    Raises:
        ServingError: the source is no repository or damaged, something is at the target, or one of
            the two does not answer. A copy in a folder appears when it is whole; one in a bucket
            has no ensemble before, and the same command completes it.
    """
    source, target = open_store(settings.source), open_store(settings.target)
    if not list_tasks(source):
        raise PublishError(f"{settings.source} is no model repository: it has no ensemble")
    if list_tasks(target):
        raise PublishError(f"{settings.target} is a repository already: name a place that is empty")
    with (
        source.lock(f"copy to {settings.target}"),
        target.lock("copy"),
        tempfile.TemporaryDirectory() as folder,
    ):
        versions, copied = _check_versions(source), Path(folder, "models")
        source.fetch(copied)
        target.create(copied)
        compare_copy(copied, target)
    print(f"copied {settings.source} to {settings.target}: {versions} versions, each as published")


def compare_copy(folder: Path, target: Store) -> None:
    """Every file of a folder is at the target, and the same.

    Raises:
        StoreError: one is not.
    """
    paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    if missing := paths.keys() - target.files(hidden=True):
        raise StoreError(f"{target.address} lacks {', '.join(sorted(missing))}: copy again")
    for name, path in paths.items():
        if target.read(name) != path.read_bytes():
            raise StoreError(f"{target.address}/{name} is not what was copied: copy again")


def _check_versions(store: Store) -> int:
    """Every published version is the published one. Returns how many there are."""
    count = 0
    for ensemble in set(read_records(store)).intersection(list_models(store)):
        repository, record = open_repository(store, ensemble), read_record(store, ensemble)
        for version in repository.versions():
            read_published(repository, version, record)
            count += 1
    return count
