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

A model may have variants of its configuration, configs/NAME.pbtxt, which a server that was started
with --model-config-name NAME reads instead of config.pbtxt. They say how a model runs, never what
is served: a release changes all of them alike, and what is served is read from config.pbtxt.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_STRING, ModelConfig

from client.canary import SHARE as CANARY_SHARE
from client.canary import SUFFIX as CANARY_SUFFIX
from client.canary import VERSION as CANARY_VERSION
from client.versions import NEWEST, live_version, pin_of
from serving.artifact import Artifact, Signature
from serving.errors import MissingFileError, PublishError
from serving.store.base import (
    CONFIG,
    VARIANTS,
    Store,
    is_config,
    is_under,
    variant_path,
)

TEMPLATE = Path(__file__).parent.parent / "model_repository"  # the one this project ships
NETWORK_FILE = "model.onnx"
DEFAULT_MODEL = "ensemble"

POLICY = re.compile(r"version_policy\s*:?\s*\{[^{}]*(\{[^{}]*\}[^{}]*)*\}")


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

    @property
    def versions(self) -> frozenset[int]:
        """The versions that are served."""
        return frozenset(v for v in (self.live, self.canary) if v is not None)


def read_config(store: Store, model: str, variant: str = "") -> ModelConfig:
    """A model's configuration; of a variant that the model does not have, its config.pbtxt.

    Raises:
        PublishError: the file is missing or malformed.
    """
    path = f"{model}/{variant_path(variant)}"
    if variant and path not in config_files(store, model):
        path = f"{model}/{CONFIG}"
    return read_config_file(store, path)


def read_config_file(store: Store, path: str) -> ModelConfig:
    """The same by the file's path."""
    return parse(read_text(store, path), f"{store.address}/{path}")


def config_files(store: Store, model: str) -> list[str]:
    """The paths of a model's configurations: config.pbtxt and its variants, if it has any."""
    return sorted(path for path in store.files() if is_under(path, model) and is_config(path))


def variants(files: Iterable[str]) -> dict[str, list[str]]:
    """The models that have each variant, by its name, from the paths of a repository's files."""
    found: dict[str, list[str]] = {}
    for path in sorted(filter(is_config, files)):
        model, *rest = path.split("/")
        if rest[0] == VARIANTS:
            found.setdefault(Path(path).stem, []).append(model)
    return found


def read_text(store: Store, path: str) -> str:
    """A text file of a repository."""
    try:
        return store.read(path).decode()
    except MissingFileError:
        raise PublishError(f"{store.address} has no {path}: is it a model repository?") from None
    except UnicodeDecodeError:
        raise PublishError(f"{store.address}/{path} is not UTF-8 text") from None


def parse(text: str, name: str = CONFIG) -> ModelConfig:
    """Parse the text of a config.pbtxt."""
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise PublishError(f"{name} cannot be read: {error}") from None


def models(store: Store) -> list[str]:
    """The names of the folders that hold a configuration."""
    paths = (path.split("/") for path in store.files())
    return sorted(parts[0] for parts in paths if len(parts) == 2 and parts[1] == CONFIG)


def tasks(store: Store) -> list[str]:
    """The ensembles that take photos, without canaries."""
    stable = [model for model in models(store) if not model.endswith(CANARY_SUFFIX)]
    return [model for model in stable if takes_photos(read_config(store, model))]


def takes_photos(config: ModelConfig) -> bool:
    """Whether a model is an ensemble whose one input is encoded images."""
    inputs = [(tensor.name, tensor.data_type) for tensor in config.input]
    return config.HasField("ensemble_scheduling") and inputs == [("image", TYPE_STRING)]


def read_task(store: Store, ensemble: str) -> Task:
    """The task that an ensemble stands for.

    Raises:
        PublishError: there is no such ensemble, or it is not made as this project's are.
    """
    if ensemble not in (known := models(store)):
        raise PublishError(
            f"{store.address} has no model {ensemble}, only {', '.join(known) or 'nothing'}: name "
            "the ensemble that takes photos with --model"
        )
    steps = read_config(store, ensemble).ensemble_scheduling.step
    network = [step.model_name for step in steps if "images" in step.input_map]
    postprocess = [step.model_name for step in steps if "scores" in step.input_map]
    if len(network) != 1 or len(postprocess) != 1:
        raise PublishError(
            f"{store.address}/{ensemble} must be an ensemble with one step that takes images and "
            f"one that takes scores, found the steps {[step.model_name for step in steps]}"
        )
    labels = tuple(read_text(store, f"{postprocess[0]}/labels.txt").splitlines())
    signature = read_signature(read_config(store, network[0]))
    names = (ensemble, *dict.fromkeys(step.model_name for step in steps))
    return Task(ensemble, network[0], names, labels, signature)


def read_signature(config: ModelConfig) -> Signature:
    """The tensor sizes that a network's configuration asks for."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in [*config.input, *config.output]}
    try:
        return Signature(**sizes)
    except TypeError:
        raise PublishError(
            f"model {config.name} must have the tensors images, boxes and scores, found "
            f"{', '.join(sizes)}"
        ) from None


def versions(store: Store, task: Task) -> list[int]:
    """The version folders of the task's network, in order."""
    prefix = f"{task.network}/"
    return sorted(version_numbers(path for path in store.files() if path.startswith(prefix)))


def version_numbers(files: Iterable[str]) -> set[int]:
    """The numbers of a model's version folders that hold a file, from the paths of its files."""
    folders = [path.split("/")[1] for path in files if path.count("/") > 1]
    return {int(name) for name in folders if name.isdecimal()}


def read_state(store: Store, task: Task) -> State:
    """What a server that starts over the repository serves.

    Raises:
        PublishError: the network has no version.
    """
    there = versions(store, task)
    if not there:
        raise PublishError(f"{store.address}/{task.network} has no version folder")
    ensemble, network = (read_config(store, name) for name in (task.ensemble, task.network))
    live = live_version(ensemble, task.network, network, there)
    if task.canary not in models(store):
        return State(live)
    config = read_config(store, task.canary)
    text = config.parameters[CANARY_SHARE].string_value
    try:
        return State(live, pin_of(config, task.network), float(text))
    except ValueError:
        raise PublishError(
            f"{store.address}/{task.canary}/{CONFIG}: {CANARY_SHARE} must be a number from 0 to 1, "
            f"found {text!r}"
        ) from None


def holders(store: Store, task: Task, live: int) -> dict[int, list[str]]:
    """The ensembles that use each version of the network; a version they name is pinned.

    In any variant: which one a server reads is not known here.
    """
    found: dict[int, list[str]] = {}
    for path in filter(is_config, store.files()):
        for step in read_config_file(store, path).ensemble_scheduling.step:
            if step.model_name == task.network:
                version = step.model_version if step.model_version > 0 else live
                found.setdefault(version, []).append(path.split("/")[0])
    return {version: sorted(set(users)) for version, users in found.items()}


def held(store: Store, task: Task) -> frozenset[int]:
    """The versions of the task's network that other tasks' ensembles name."""
    own = {task.ensemble, task.canary}
    users = holders(store, task, live=NEWEST)
    return frozenset(v for v in versions(store, task) if set(users.get(v, [])) - own)


def with_policy(text: str, served: frozenset[int] | None) -> str:
    """A network's configuration that serves these versions; None: the newest one."""
    config = parse(text)
    if served is None:
        config.version_policy.latest.num_versions = 1
        block = "version_policy { latest { num_versions: 1 } }"
    else:
        config.version_policy.specific.versions[:] = sorted(served)
        block = f"version_policy {{ specific {{ versions: {sorted(served)} }} }}"
    return keep_comments(POLICY.sub(block, text, count=1), config)


def with_pin(text: str, network: str, version: int) -> str:
    """An ensemble's configuration that uses this version of the network."""
    config = parse(text)
    for step in config.ensemble_scheduling.step:
        if step.model_name == network:
            step.model_version = version
    place = rf'(model_name\s*:\s*"{re.escape(network)}"\s+model_version\s*:\s*)-?\d+'
    return keep_comments(re.sub(place, rf"\g<1>{version}", text), config)


def keep_comments(edited: str, wanted: ModelConfig) -> str:
    """The edited text if it says what is wanted, else the configuration without comments."""
    try:
        if parse(edited) == wanted:
            return edited
    except PublishError:
        pass
    return str(text_format.MessageToString(wanted))


def canary_config(text: str, task: Task, version: int, share: float) -> str:
    """The configuration of the canary, made from that of the task's ensemble."""
    config = parse(with_pin(text, task.network, version))
    config.name = task.canary
    config.parameters[CANARY_SHARE].string_value = str(share)
    config.parameters[CANARY_VERSION].string_value = str(version)
    return (
        f"# {task.ensemble} with version {version} of {task.network}, for a share of the clients "
        f"that ask for it.\n# Made by `serving canary`; promote and rollback take it away.\n"
        + text_format.MessageToString(config)
    )


def names(ensemble: str) -> dict[str, str]:
    """What the template's models are called in a task of this name; the ensemble comes last."""
    found = sorted(path.parent.name for path in TEMPLATE.glob(f"*/{CONFIG}"))
    parts = [name for name in found if name != DEFAULT_MODEL]
    prefix = "" if ensemble == DEFAULT_MODEL else f"{ensemble}_"
    return {name: prefix + name for name in parts} | {DEFAULT_MODEL: ensemble}


def render(template: Path, artifact: Artifact, target: Path, ensemble: str = DEFAULT_MODEL) -> None:
    """Make a repository for another label list, input size or ensemble's name.

    The Python models are copied as they are: they read sizes and labels when they start.
    """
    target.mkdir()
    renamed = names(ensemble)
    for old, new in renamed.items():
        network = any((template / old).glob(f"*/{NETWORK_FILE}"))
        ignore = leave_versions_out if network else None
        shutil.copytree(template / old, target / new, ignore=ignore)
        for path in [target / new / CONFIG, *(target / new).glob(variant_path("*"))]:
            config = parse(path.read_text(encoding="utf-8"), str(path))
            fit(config, artifact.signature, renamed)
            path.write_text(text_format.MessageToString(config), encoding="utf-8")
        if network:
            (target / new / "1").mkdir()
            shutil.copyfile(artifact.network, target / new / "1" / NETWORK_FILE)
    for labels in target.glob("*/labels.txt"):
        labels.write_text("\n".join(artifact.labels) + "\n", encoding="utf-8")


def leave_versions_out(folder: str, names: list[str]) -> list[str]:
    """For shutil.copytree: the version folders of a model, not a variant such as 2cores.pbtxt."""
    return [name for name in names if name.isdecimal()]


def fit(config: ModelConfig, signature: Signature, names: dict[str, str]) -> None:
    """Put in the names of the models, and the sizes of the tensors between them."""
    config.name = names[config.name]
    if config.version_policy.HasField("specific"):
        config.version_policy.latest.num_versions = 1
    for step in config.ensemble_scheduling.step:
        step.model_name = names[step.model_name]
        step.model_version = NEWEST
    tensors = [(tensor.name, tensor) for tensor in [*config.input, *config.output]]
    warm_up = [item for sample in config.model_warmup for item in sample.inputs.items()]
    for name, tensor in [*tensors, *warm_up]:
        if name in ("images", "boxes", "scores"):
            tensor.dims[:] = getattr(signature, name)


def make(store: Store, artifact: Artifact, ensemble: str) -> None:
    """Make a new repository for the artifact, or add its models to one as a further task."""
    if not TEMPLATE.is_dir():
        raise PublishError(f"the repository to start from is missing: {TEMPLATE}")
    with tempfile.TemporaryDirectory(prefix="repository-") as folder:
        rendered = Path(folder) / "models"
        render(TEMPLATE, artifact, rendered, ensemble)
        if not tasks(store):
            store.create(rendered)
            return
        for model in names(ensemble).values():
            store.place(model, contents(rendered / model))


def contents(folder: Path) -> dict[str, bytes]:
    """A folder's files, by path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
