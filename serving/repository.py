"""The tasks of a model repository: the models of each, its versions, and which of them is served.

A task is one label list and one set of tensor sizes: an ensemble that takes `image`, and the models
it consists of. The ensemble `ensemble` consists of preprocess, ssd and postprocess; a further task
`potholes` of potholes_preprocess, potholes_ssd and potholes_postprocess. The network's version
folders (ssd/1, ssd/2, ...) are its weights, one file each.

What is served stands in the configurations, so every server that starts over the repository serves
the same:

| | network's version_policy | ensemble's model_version | `<ensemble>_canary` |
|---|---|---|---|
| the newest version is live | latest | -1 | |
| another version is live | specific: it | -1 | |
| during a canary | specific: both | the live one | pinned to the other |

A version that another ensemble names is served in any case: the policy then is specific and names
it as well, and where it is newer than the live one, model_version names the live one.

A fusion, an ensemble of several tasks' networks (`serving fuse`), is no task: it names versions of
theirs, as any other ensemble may, and has none of its own.

A model may have variants of its configuration. They say how a model runs, never what is served: a
release changes all of them alike, and what is served is read from config.pbtxt.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

from client.canary import SHARE as CANARY_SHARE
from client.canary import SUFFIX as CANARY_SUFFIX
from client.versions import NEWEST, live_version, pin_of
from serving.artifact import RESIZES, Signature
from serving.errors import PublishError
from serving.model_config import (
    list_configs,
    list_networks,
    list_version_numbers,
    read_config,
    read_config_file,
    read_text,
    takes_photos,
)
from serving.store.base import CONFIG, Store, is_config, is_under

NETWORK_FILE = "model.onnx"
DEFAULT_MODEL = "ensemble"


@dataclass(frozen=True)
class Task:
    """The models of one task, by name, and what all its versions have in common."""

    ensemble: str
    network: str
    models: tuple[str, ...]  # the two, and all others
    labels: tuple[str, ...]
    signature: Signature

    @property
    def canary(self) -> str:
        """The name of the ensemble that a canary runs as."""
        return self.ensemble + CANARY_SUFFIX

    def version_folder(self, version: int) -> str:
        """Where a version of the network lies."""
        return f"{self.network}/{version}"

    def network_file(self, version: int) -> str:
        """The weights of a version."""
        return f"{self.version_folder(version)}/{NETWORK_FILE}"


@dataclass(frozen=True)
class State:
    """What a task serves: the live version, and the canary with its share of traffic, 0 to 1."""

    live: int
    canary: int | None = None
    share: float = 0.0

    def __str__(self) -> str:
        canary = f", version {self.canary} a canary for {self.share:.0%}" if self.canary else ""
        return f"version {self.live} live{canary}"

    @property
    def versions(self) -> frozenset[int]:
        """The versions that are served."""
        return frozenset(v for v in (self.live, self.canary) if v is not None)


@dataclass(frozen=True)
class Repository:
    """One task of a model repository: its configurations and its versions.

    Attributes:
        store: where the files lie.
        task: whose files they are.

    Every method raises StoreError where the store fails, and PublishError where a configuration is
    missing or malformed.
    """

    store: Store
    task: Task

    def versions(self) -> list[int]:
        """The version folders of the task's network, in order."""
        network = [path for path in self.store.files() if is_under(path, self.task.network)]
        return sorted(list_version_numbers(network))

    def state(self) -> State:
        """What a server that starts over the repository serves.

        Raises:
            PublishError: the network has no version.
        """
        task, there = self.task, self.versions()
        if not there:
            raise PublishError(f"{self.store.address}/{task.network} has no version folder")
        ensemble, network = self.config(task.ensemble), self.config(task.network)
        live = live_version(ensemble, task.network, network, there)
        if not self.has_model(task.canary):
            return State(live)
        canary = self.config(task.canary)
        return State(live, pin_of(canary, task.network), self._read_share(canary))

    def has_model(self, name: str) -> bool:
        """Whether there is a model of this name, the canary's ensemble for one."""
        return name in list_models(self.store)

    def config(self, model: str) -> ModelConfig:
        """What a model's config.pbtxt says."""
        return read_config(self.store, model)

    def config_texts(self, model: str) -> dict[str, str]:
        """A model's config.pbtxt and its variants, if it has any, as text by path."""
        return {path: read_text(self.store, path) for path in list_configs(self.store, model)}

    def edit_configs(self, model: str, change: Callable[[str], str]) -> None:
        """Change the text of a model's config.pbtxt and its variants alike."""
        for path, text in self.config_texts(model).items():
            if (changed := change(text)) != text:
                self.store.write(path, changed.encode())

    def users(self, live: int) -> dict[int, list[str]]:
        """The ensembles that use each version of the network; a version they name is pinned.

        In any variant: which one a server reads is not known here.

        Args:
            live: the version of those that name none.
        """
        found: dict[int, set[str]] = {}
        for path in filter(is_config, self.store.files()):
            for step in read_config_file(self.store, path).ensemble_scheduling.step:
                if step.model_name == self.task.network:
                    version = step.model_version if step.model_version > 0 else live
                    found.setdefault(version, set()).add(path.split("/")[0])
        return {version: sorted(ensembles) for version, ensembles in found.items()}

    def held(self) -> frozenset[int]:
        """The versions of the task's network that other tasks' ensembles name."""
        own = {self.task.ensemble, self.task.canary}
        users = self.users(live=NEWEST)
        return frozenset(v for v in self.versions() if set(users.get(v, [])) - own)

    def named(self) -> set[int]:
        """The versions that the task's ensemble and its canary name."""
        own = [name for name in (self.task.ensemble, self.task.canary) if self.has_model(name)]
        paths = [path for name in own for path in list_configs(self.store, name)]
        pins = {pin_of(read_config_file(self.store, path), self.task.network) for path in paths}
        return pins - {NEWEST}

    def read_network(self, version: int) -> bytes:
        """A version's weights. Raises MissingFileError where there are none."""
        return self.store.read(self.task.network_file(version))

    def place_network(self, version: int, network: bytes) -> None:
        """Add a version."""
        self.store.place(self.task.version_folder(version), {NETWORK_FILE: network})

    def remove_version(self, version: int) -> None:
        """Remove a version, if it is there."""
        self.store.remove(self.task.version_folder(version))

    def _read_share(self, canary: ModelConfig) -> float:
        text = canary.parameters[CANARY_SHARE].string_value
        try:
            return float(text)
        except ValueError:
            raise PublishError(
                f"{self.store.address}/{self.task.canary}/{CONFIG}: {CANARY_SHARE} must be a "
                f"number from 0 to 1, found {text!r}"
            ) from None


def open_repository(store: Store, ensemble: str) -> Repository:
    """The task of a model repository that an ensemble stands for.

    Raises:
        PublishError: there is no such ensemble, or it is not made as this project's are.
    """
    return Repository(store, _read_task(store, ensemble))


def list_models(store: Store) -> list[str]:
    """The names of the folders that hold a configuration."""
    paths = (path.split("/") for path in store.files())
    return sorted(parts[0] for parts in paths if len(parts) == 2 and parts[1] == CONFIG)


def list_tasks(store: Store) -> list[str]:
    """The ensembles that take photos, without canaries and fusions."""
    stable = [model for model in list_models(store) if not model.endswith(CANARY_SUFFIX)]
    configs = [(model, read_config(store, model)) for model in stable]
    return [name for name, each in configs if takes_photos(each) and len(list_networks(each)) < 2]


def _read_task(store: Store, ensemble: str) -> Task:
    if ensemble not in (known := list_models(store)):
        raise PublishError(
            f"{store.address} has no model {ensemble}, only {', '.join(known) or 'nothing'}: name "
            "the ensemble that takes photos with --model"
        )
    config = read_config(store, ensemble)
    steps, networks = config.ensemble_scheduling.step, list_networks(config)
    if len(networks) > 1:
        fused = " and ".join(f"version {version} of {name}" for name, version in networks)
        raise PublishError(
            f"{store.address}/{ensemble} fuses {fused}: release those by the names of their own "
            f"ensembles, then give it their versions with `serving fuse --model {ensemble}`"
        )
    network = [name for name, _ in networks]
    postprocess = [step.model_name for step in steps if "scores" in step.input_map]
    if len(network) != 1 or len(postprocess) != 1:
        raise PublishError(
            f"{store.address}/{ensemble} must be an ensemble with one step that takes images and "
            f"one that takes scores, found the steps {[step.model_name for step in steps]}"
        )
    labels = tuple(read_text(store, f"{postprocess[0]}/labels.txt").splitlines())
    others = [step.model_name for step in steps if {"image", "scores"} & {*step.input_map}]
    signature = _read_signature(read_config(store, network[0]), _read_resize(store, others))
    names = (ensemble, *dict.fromkeys(step.model_name for step in steps))
    return Task(ensemble, network[0], names, labels, signature)


def _read_signature(config: ModelConfig, resize: str) -> Signature:
    """The tensor sizes that a network's configuration asks for, and the resizing of its task."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in [*config.input, *config.output]}
    try:
        return Signature(sizes["images"], sizes["boxes"], sizes["scores"], resize)
    except KeyError:
        raise PublishError(
            f"model {config.name} must have the tensors images, boxes and scores, found "
            f"{', '.join(sizes)}"
        ) from None


def _read_resize(store: Store, models: list[str]) -> str:
    """How a task's steps resize photos; configurations of before do not say.

    Raises:
        PublishError: they do not agree.
    """
    configs = {name: read_config(store, name).parameters for name in models}
    found = {
        name: parameters["resize"].string_value if "resize" in parameters else RESIZES[0]
        for name, parameters in configs.items()
    }
    if len(set(found.values())) > 1:
        said = ", ".join(f"{resize} in {name}" for name, resize in found.items())
        raise PublishError(
            f"{store.address}: the parameter resize must be one in all configurations of a task, "
            f"found {said}: set what the networks were trained with"
        )
    return next(iter(found.values()))
