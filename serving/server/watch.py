"""Sees which models of a repository changed, once the change has come to rest.

While releases.json tells of a release that is under way, nothing counts as changed: its publisher
tells the server itself what to load, in an order of its own. It counts afterwards, for a server
that the publisher did not reach; and if the publisher died, once the repository has been at rest
for a while, because every step of a release leaves a repository that a server can start from.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.errors import ServingError, StoreError
from serving.history import read_records
from serving.model_config import list_version_numbers, read_config
from serving.store.base import Store, is_in_repository
from serving.store.folder import FolderStore

FOLDER_SECONDS = 1.0  # between two listings of a folder
STORE_SECONDS = 5.0  # between two listings of an object store
RELEASE_SECONDS = 30.0  # for which a release under way changes nothing until its publisher is dead

Snapshot = dict[str, dict[str, str]]  # by model: the stamps of its files


@dataclass(frozen=True)
class Changes:
    """What is to be done, or to be told."""

    changed: list[str] = field(default_factory=list)  # models that are new or differ
    gone: list[str] = field(default_factory=list)
    arrived: dict[str, int] = field(default_factory=dict)  # newest version, if new, by model
    trouble: str | None = None  # why the repository cannot be read now; "" when it can be again


class Watch:
    """Compares the repository with what it was. `changes` may be called as often as wanted.

    It lists the files in a thread of its own: a store that hangs must not keep the caller waiting.
    """

    def __init__(self, store: Store, variant: str = "") -> None:
        self._store = store
        self._variant = variant
        self._seconds = FOLDER_SECONDS if isinstance(store, FolderStore) else STORE_SECONDS
        self._known: Snapshot = {}
        self._last: Snapshot = {}
        self._trouble = ""
        self._is_releasing = False
        self._came_to_rest = 0.0  # when the last listing that differed was seen
        self._next = 0.0
        self._thread: threading.Thread | None = None
        self._answer: Snapshot | StoreError | None = None

    @property
    def away(self) -> bool:
        """Whether the repository could not be read at the last listing."""
        return bool(self._trouble)

    def begin(self, files: Mapping[str, str]) -> None:
        """Take this as the state that is loaded."""
        self._known = self._last = _group_by_model(files)

    def config(self, model: str) -> ModelConfig:
        """What a model's config.pbtxt says, or the variant of it that the server reads.

        Raises:
            ServingError: it is missing or malformed.
        """
        return read_config(self._store, model, self._variant)

    def versions(self, model: str) -> set[int]:
        """The numbers of a model's version folders at the last listing."""
        return list_version_numbers(self._last.get(model, {}))

    def changes(self) -> Changes:
        """What changed since the last answer that told of a change.

        A change counts when two listings in a row agree, so that a copy in progress can end.
        """
        if self._thread is None:
            if time.monotonic() >= self._next:
                self._thread = threading.Thread(target=self._list_files, name="watch", daemon=True)
                self._thread.start()
        elif not self._thread.is_alive():
            self._thread = None
            self._next = time.monotonic() + self._seconds
            return self._compare()
        return Changes()

    def _list_files(self) -> None:
        try:
            files = self._store.files()
            if self._known and not files:  # a folder that is not mounted is seen so
                raise StoreError(f"{self._store.address} is gone or empty")
            found = _group_by_model(files)
            self._is_releasing = found != self._known and is_releasing(self._store)
            self._answer = found
        except StoreError as error:
            self._answer = error

    def _compare(self) -> Changes:
        now = self._answer
        if not isinstance(now, dict):
            return self._change_of_trouble(str(now))
        changes = self._change_of_trouble("")
        settled, self._last = now == self._last, now
        if not settled:
            self._came_to_rest = time.monotonic()
        rest = time.monotonic() - self._came_to_rest
        if not settled or now == self._known or (self._is_releasing and rest < RELEASE_SECONDS):
            return changes
        known, self._known = self._known, now
        changed = sorted(model for model in now if now[model] != known.get(model))
        arrived = {m: max(list_version_numbers(now[m]), default=0) for m in changed}
        arrived = {
            m: n
            for m, n in arrived.items()
            if n > max(list_version_numbers(known.get(m, {})), default=0)
        }
        return Changes(changed, sorted(known.keys() - now.keys()), arrived, changes.trouble)

    def _change_of_trouble(self, trouble: str) -> Changes:
        """What is wrong now, if that has changed; empty: nothing is wrong any more."""
        before, self._trouble = self._trouble, trouble
        return Changes(trouble=None if bool(before) == bool(trouble) else trouble)


def is_releasing(store: Store) -> bool:
    """Whether the repository's record tells of a release that has begun and not ended.

    Raises:
        StoreError: the store is away.
    """
    try:
        return any(record["unfinished"] for record in read_records(store).values())
    except StoreError:
        raise
    except (ServingError, KeyError, TypeError):  # a damaged record; the publisher tells of it
        return False


def _group_by_model(files: Mapping[str, str]) -> Snapshot:
    """The stamps by model. What has no config.pbtxt is no model."""
    files = {path: stamp for path, stamp in files.items() if is_in_repository(path, hidden=False)}
    models = {path.split("/")[0] for path in files if path.count("/") == 1}
    return {
        model: {path: stamp for path, stamp in files.items() if path.startswith(f"{model}/")}
        for model in models
        if f"{model}/config.pbtxt" in files
    }
