"""A publisher killed at any moment: what it leaves is whole, and the next command cleans up.

The moments are the changes of the repository, one after the other: renames in a folder, PUTs and
DELETEs in an object store. A process dies at each, once before and once after it. Beside it runs
what stands for a server: it holds what the repository says whenever it is told to load.
"""

import hashlib
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import obstore
import pytest
from google.protobuf import text_format
from obstore.exceptions import GenericError
from obstore.store import MemoryStore
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from client.versions import pin_of, wanted_versions
from serving import history, template
from serving.artifact import Artifact
from serving.control import Control
from serving.errors import PublishError
from serving.model_config import list_version_numbers, read_config
from serving.release import deployment, new_task, rollout, session
from serving.release import publish as publishing
from serving.release.promote import (
    PromoteSettings,
    RollbackSettings,
    promote,
    rollback,
)
from serving.release.publish import (
    CanarySettings,
    PublishSettings,
    canary,
    publish,
)
from serving.release.servers import Servers
from serving.repository import NETWORK_FILE, open_repository
from serving.server.prerequisites import choose_models
from serving.store.address import open_store
from serving.store.base import Store
from serving.store.bucket import Bucket
from serving.store.lease import LOCK
from serving.store.objects import ObjectStore
from tests.conftest import PROJECT

TASK = open_repository(open_store(PROJECT / "model_repository"), "ensemble").task


class Killed(BaseException):
    """The end of the process: nobody catches it."""


@dataclass
class Life:
    """A process that dies at its nth change, before it or after it; 0: never."""

    last: int = 0
    happens: bool = False
    changes: int = 0
    dead: bool = False

    def check(self) -> None:
        """The dead do nothing."""
        if self.dead:
            raise Killed

    def change(self, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """One change of the repository."""
        if threading.current_thread() is not threading.main_thread():
            return do(*arguments, **options)  # another test's server looks after its own files
        self.check()
        self.changes += 1
        self.dead = self.changes == self.last
        if self.dead and not self.happens:
            raise Killed
        result = do(*arguments, **options)
        self.check()
        return result

    def reach(self) -> None:
        """A moment at which nothing changes in the repository."""
        self.check()
        self.changes += 1
        self.dead = self.changes == self.last
        self.check()


class Triton:
    """Loads what the repository says when it is told to, and answers with what it has loaded."""

    def __init__(self, store: Store, variant: str = "", second: bool = False) -> None:
        self.store = store
        self.variant = variant
        self.second = second  # a publisher may die when this one is told something, too
        self.life = Life()
        self.configs: dict[str, ModelConfig] = {}
        self.networks: dict[str, dict[str, bytes]] = {}
        self.ensembles: dict[str, tuple[str, int]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.others: set[str] = set()
        for model in choose_models(store.address, store.files(hidden=True)):
            self.load(model)

    def load(self, model: str, timeout: float = 0) -> None:
        """As Triton: an ensemble makes it load its models first."""
        (self.life.reach if self.second else self.life.check)()
        config = read_config(self.store, model, self.variant)
        if config.ensemble_scheduling.step:
            network = config.ensemble_scheduling.step[1].model_name
            self.load(network)
            self.ensembles[model] = (network, pin_of(config, network))
        elif config.backend == "onnxruntime":
            paths = [path for path in self.store.files() if path.startswith(f"{model}/")]
            folders = list_version_numbers(paths)
            if not (wanted := wanted_versions(config, folders)) <= folders:
                raise InferenceServerException(f"{model} has no version {wanted - folders}")
            loaded = self.networks.get(model, {})
            self.networks[model] = {
                version: loaded.get(version) or self.store.read(f"{model}/{version}/model.onnx")
                for version in map(str, wanted)
            }
        self.others.add(model)
        self.configs[model] = config
        for ensemble in self.ensembles:
            self.answer(ensemble)

    def version(self, ensemble: str) -> str:
        """The version of the network that an ensemble uses."""
        network, pinned = self.ensembles[ensemble]
        return str(pinned if pinned > 0 else max(map(int, self.networks[network])))

    def answer(self, ensemble: str) -> bytes:
        """Whatever happens, an ensemble that is loaded answers."""
        network = self.networks[self.ensembles[ensemble][0]]
        assert self.version(ensemble) in network, f"requests to {ensemble} fail"
        return network[self.version(ensemble)]

    def unload(self, model: str) -> None:
        """At once, and what was never loaded as well."""
        self.life.check()
        self.networks.pop(model, None)
        self.ensembles.pop(model, None)
        self.configs.pop(model, None)
        self.others.discard(model)

    def config(self, model: str) -> ModelConfig:
        """What it runs with."""
        self.life.check()
        return self.configs[model]

    def loaded(self) -> list[str]:
        """All that it has loaded."""
        self.life.check()
        return sorted(self.configs)

    def models(self, *_: str) -> list[str]:
        """All are ready."""
        self.life.check()
        return sorted(self.others)

    def versions(self, model: str, *_: str) -> set[str]:
        """What is loaded of a network."""
        self.life.check()
        return set(self.networks.get(model, {}))

    def is_live(self) -> bool:
        """It answers."""
        return True

    def has_version(self, model: str, version: str) -> bool:
        """Whether it is loaded."""
        return version in self.versions(model)

    def failed_to_load(self, *_: object) -> bool:
        """None does."""
        self.life.check()
        return False

    def answered(self, model: str, version: str) -> int:
        """Requests until now."""
        self.life.check()
        return self.counts[model, version]

    def infer(self, model: str, _: float) -> None:
        """A request."""
        self.life.check()
        self.counts[self.ensembles[model][0], self.version(model)] += 1

    def infer_network(self, model: str, version: str, images: np.ndarray, _: float) -> np.ndarray:
        """A request to one version."""
        self.life.check()
        return compute_scores(self.networks[model][version], images)


def compute_scores(network: bytes, images: np.ndarray) -> np.ndarray:
    """Scores [B, 1, 1] that tell one content from another."""
    code = hashlib.sha256(network).digest()[0] / 10  # differs by more than deployment.TOLERANCE
    return np.full((len(images), 1, 1), code, np.float32)


PARSE = text_format.Parse


@cache
def parse_once(text: str, **options: Any) -> ModelConfig:
    """The same few configurations are parsed again and again, most of the time of these tests."""
    return PARSE(text, ModelConfig(), **options)


def parse_quickly(text: str, config: ModelConfig, **options: Any) -> ModelConfig:
    """In the place of `text_format.Parse`."""
    config.CopyFrom(parse_once(text, **options))
    return config


class World:
    """A repository, commands over it, and servers, if there are any."""

    def __init__(self, address: str, folder: Path, patch: pytest.MonkeyPatch, serves: int) -> None:
        self.address = address
        self.folder = folder
        self.patch = patch
        self.serves = serves
        self.tritons: list[Triton] = []
        self.published = 0
        self.variant = ""  # of the configurations that the server reads
        patch.setattr(text_format, "Parse", parse_quickly)
        patch.setattr(os, "fsync", lambda _: None)  # processes die here, the machine does not
        patch.setattr(template, "TEMPLATE", plain_template(folder / "template"))
        patch.setattr(publishing, "read_artifact", lambda path: Artifact(path, *task_of()))
        patch.setattr(publishing, "try_artifact", lambda *_: {})
        patch.setattr(publishing, "check_sensible", lambda _: None)
        for module in (deployment, rollout):
            patch.setattr(module, "compute_scores", compute_scores)
        for module in (publishing, new_task):
            patch.setattr(module, "sign_release", lambda: {"published": "today", "by": "me"})
        patch.setattr(history, "tell_time", lambda: "today")
        for module in (session, new_task):
            patch.setattr(module, "connect", self.connect)

    @contextmanager
    def connect(self, _: object) -> Iterator[Servers]:
        """In the place of connections to servers."""
        yield Servers({str(n): cast(Control, each) for n, each in enumerate(self.tritons)})

    @property
    def store(self) -> Store:
        """The repository."""
        return open_store(self.address)

    def files(self) -> dict[str, bytes]:
        """All there is, leftovers beside a folder included."""
        if isinstance(self.store, ObjectStore):
            client = self.store._bucket._client
            paths = [one["path"] for one in obstore.list(client).collect()]
            return {path: bytes(obstore.get(client, path).bytes()) for path in paths}
        top = Path(self.address).parent
        files = [path for path in top.rglob("*") if path.is_file()] if top.exists() else []
        return {path.relative_to(top).as_posix(): path.read_bytes() for path in files}

    def restore(self, files: dict[str, bytes]) -> None:
        """Begin again with these files, and a server over them."""
        store = self.store
        if isinstance(store, ObjectStore):
            for path in self.files().keys() - files.keys():
                obstore.delete(store._bucket._client, path)
            for path, data in files.items():
                obstore.put(store._bucket._client, path, data)
        else:
            top = Path(self.address).parent
            shutil.rmtree(top, ignore_errors=True)
            for path, data in files.items():
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_bytes(data)
        self.tritons = [
            Triton(self.store, self.variant, second=n > 0) for n in range(self.serves) if files
        ]

    def do(self, command: str) -> None:
        """One command; each artifact is another one."""
        self.published += 1
        artifact = self.folder / f"artifact-{self.published}"
        artifact.write_bytes(f"network {self.published}".encode())
        where: dict[str, Any] = {"repository": self.address}
        match command.split():
            case ["publish", *model]:
                more: dict[str, Any] = {"model": model[-1], "new": len(model) < 2} if model else {}
                publish(PublishSettings(artifact=artifact, **where, **more))
            case ["prune"]:
                publish(PublishSettings(artifact=artifact, keep=1, **where))
            case ["canary"]:
                canary(CanarySettings(artifact=artifact, **where))
            case ["share"]:
                canary(CanarySettings(share=0.5, **where))
            case ["promote", *version]:
                promote(PromoteSettings(version=int(version[0]) if version else None, **where))
            case ["rollback", *version]:
                rollback(RollbackSettings(version=int(version[0]) if version else None, **where))
            case _:
                raise ValueError(command)

    def live(self, life: Life, command: str) -> bool:
        """Do a command until its end, or its process'. Returns whether it ended well."""
        number = self.published
        with self.patch.context() as patch:
            mortal_folder(life, patch)
            mortal_objects(life, patch)
            for triton in self.tritons:
                triton.life = life
            with suppress(Killed):
                self.do(command)
        self.published = number + 1
        for triton in self.tritons:
            triton.life = Life()
        if life.dead and isinstance(self.store, ObjectStore):
            obstore.delete(self.store._bucket._client, LOCK)  # its lease has run out
        return not life.dead


def plain_template(folder: Path) -> Path:
    """The shipped repository without variants, which would triple the moments to die in."""
    ignore = shutil.ignore_patterns("__pycache__", "configs", NETWORK_FILE, "releases.json")
    shutil.copytree(PROJECT / "model_repository", folder, ignore=ignore)
    (folder / TASK.network_file(1)).touch()
    return folder


def task_of() -> tuple[Any, Any]:
    """What all artifacts have in common with the shipped repository."""
    return TASK.labels, TASK.signature


def mortal_folder(life: Life, patch: pytest.MonkeyPatch) -> None:
    """A folder changes by renaming; the dead tidy up nothing."""
    rename, replace, unlink = Path.rename, Path.replace, Path.unlink
    cleanup = tempfile.TemporaryDirectory.cleanup
    leave = tempfile.TemporaryDirectory.__exit__

    def exit_(self: Any, *error: Any) -> None:
        if life.dead and ".publish-" in self.name:
            self._finalizer.detach()
        else:
            leave(self, *error)

    patch.setattr(Path, "rename", lambda *a: life.change(rename, *a))
    patch.setattr(Path, "replace", lambda *a: life.change(replace, *a))
    patch.setattr(Path, "unlink", lambda *a, **k: None if life.dead else unlink(*a, **k))
    patch.setattr(tempfile.TemporaryDirectory, "__exit__", exit_)
    patch.setattr(tempfile.TemporaryDirectory, "cleanup", cleanup)


def mortal_objects(life: Life, patch: pytest.MonkeyPatch) -> None:
    """An object store changes by PUT and DELETE, one object after the other."""
    put, delete = obstore.put, obstore.delete

    def mortal_put(store: Any, path: str, *arguments: Any, **options: Any) -> Any:
        if path != LOCK:
            return life.change(put, store, path, *arguments, **options)
        return put(store, path, *arguments, **options)

    def mortal_delete(store: Any, paths: Any) -> None:
        if paths == LOCK:
            if life.dead:
                raise GenericError("dead")
            delete(store, paths)
            return
        for path in [paths] if isinstance(paths, str) else paths:
            life.change(delete, store, path)

    patch.setattr(obstore, "put", mortal_put)
    patch.setattr(obstore, "delete", mortal_delete)


# what happened before, and what is interrupted
SCENARIOS = {
    "new repository": ([], "publish"),
    "next version": (["publish"], "publish"),
    "version after a rollback": (["publish", "publish", "rollback"], "publish"),
    "canary": (["publish"], "canary"),
    "share": (["publish", "canary"], "share"),
    "promotion": (["publish", "canary"], "promote"),
    "end of a canary": (["publish", "canary"], "rollback"),
    "rollback": (["publish", "publish"], "rollback"),
    "forward again": (["publish", "publish", "rollback"], "promote 2"),
    "new task": (["publish"], "publish road"),
    "removal of old versions": (["publish", "publish", "publish"], "prune"),
}

VARIED = ("version after a rollback", "canary", "share", "promotion", "rollback")
# In a folder: one that creates, one that places and writes, one that removes, one that adds.
ON_FOLDERS = ("new repository", "next version", "end of a canary", "new task")
PLACES = [("objects", scenario) for scenario in SCENARIOS]
PLACES += [("folder", scenario) for scenario in ON_FOLDERS]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> str:
    """Where no repository is yet, in an object store in memory."""
    memory = MemoryStore()
    monkeypatch.setattr(Bucket, "_connect", lambda *_: memory)
    return "s3://bucket/models"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where no repository is yet, on a disk."""
    return str(tmp_path / "there" / "models")


@pytest.mark.parametrize("serves", [True, False], ids=["server", "alone"])
@pytest.mark.parametrize(("place", "scenario"), PLACES)
def test_killed_at_every_step(
    place: str,
    scenario: str,
    serves: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """All scenarios in memory, for its speed; on a disk those that differ in how it changes."""
    address = request.getfixturevalue(place)
    kill_at_every_step(scenario, "", serves, address, tmp_path, monkeypatch)


@pytest.mark.parametrize("scenario", VARIED)
def test_killed_at_every_step_with_variants(
    scenario: str, objects: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server reads a variant; what it and one that reads config.pbtxt serve never differs."""
    kill_at_every_step(scenario, "tuned", True, objects, tmp_path, monkeypatch)


@pytest.mark.parametrize("scenario", VARIED)
def test_killed_at_every_step_of_two_servers(
    scenario: str, objects: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when one of them has been told to load, and the other has not."""
    kill_at_every_step(scenario, "", 2, objects, tmp_path, monkeypatch)


def kill_at_every_step(
    scenario: str,
    variant: str,
    serves: int,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Let a command die at each of its changes, and the next one put that right."""
    earlier, command = SCENARIOS[scenario]
    world = World(address, tmp_path, monkeypatch, serves)
    world.variant = variant
    for one in earlier:
        world.do(one)
        if variant:
            add_variants(world.store, variant)
    before, number = world.files(), world.published
    world.restore(before)
    whole = Life()
    world.live(whole, command)
    after = world.files()
    answers = [answer(world, before), answer(world, after)]
    moments = product(range(1, whole.changes + 1), (False, True) if serves else (True,))
    for last, happens in moments:
        world.restore(before)
        world.published = number
        assert not world.live(Life(last, happens), command)
        check_whole(world, answers)
        check_cleaned(world, [before, after], command)


@pytest.mark.parametrize("place", ["objects", "folder"])
@pytest.mark.parametrize("error", [InferenceServerException("no such tensor"), KeyboardInterrupt()])
def test_new_task_that_fails_is_taken_away(
    error: BaseException,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    world = World(request.getfixturevalue(place), tmp_path, monkeypatch, serves=True)
    world.do("publish")
    before = world.files()
    world.restore(before)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Triton, "infer", fail)
    with pytest.raises((PublishError, KeyboardInterrupt)):
        world.do("publish road")
    assert world.files() == before
    (triton,) = world.tritons
    assert triton.models() == Triton(world.store).models()
    monkeypatch.setattr(Triton, "infer", lambda *_: None)
    world.do("publish road")
    assert triton.answer("road") == f"network {world.published}".encode()


def add_variants(store: Store, name: str) -> None:
    """Give the network and the ensemble a variant each, if they have none."""
    for model in ("ssd", "ensemble"):
        path = f"{model}/configs/{name}.pbtxt"
        if path not in store.files():
            text = store.read(f"{model}/config.pbtxt").decode()
            store.write(path, f"# for one machine\n{text}".encode())


def answer(world: World, files: dict[str, bytes]) -> bytes | None:
    """What a server over these files answers with; None where there is no repository."""
    if not files:
        return None
    world.restore(files)
    return Triton(world.store).answer("ensemble")


def check_whole(world: World, answers: list[bytes | None]) -> None:
    """A server can start from it, and answers with the version before or after; so does ours."""
    store = world.store
    if "ensemble/config.pbtxt" not in store.files():
        assert None in answers
        return
    assert Triton(store).answer("ensemble") in answers
    assert Triton(store, world.variant).answer("ensemble") in answers
    for triton in world.tritons:
        assert triton.answer("ensemble") in answers


def check_cleaned(world: World, ends: list[dict[str, bytes]], command: str) -> None:
    """A command that itself changes nothing leaves one end or the other, the next one succeeds."""
    pruned = command == "prune"
    if ends[0] and "road" not in command and not pruned:
        with pytest.raises(PublishError, match=r"has no version 99|is a canary"):
            world.do("rollback 99")
        assert world.files() in ends
    with_canary = "ensemble_canary/config.pbtxt" in world.store.files()
    again = command if pruned or "road" in command else "publish"
    if history.read_record(world.store, "road").lived:
        again = "publish again road"
    world.do("promote" if with_canary else again)
    left = [path for path in world.files() if "/." in f"/{path}" and not path.endswith("/.keep")]
    assert left == []
    assert all(
        record["unfinished"] is None for record in history.read_records(world.store).values()
    )
    fresh = Triton(world.store, world.variant)
    assert "ensemble_canary" not in fresh.ensembles
    newest = f"network {world.published}".encode()
    if not with_canary:
        assert fresh.answer("road" if "road" in command else "ensemble") == newest
    for triton in world.tritons:
        assert triton.networks == fresh.networks
        assert triton.ensembles == fresh.ensembles
