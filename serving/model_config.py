"""A model's configuration, config.pbtxt and its variants: read from a store, edited as text.

A variant, configs/NAME.pbtxt, is what a server that was started with --model-config-name NAME reads
instead of config.pbtxt. An edit keeps a person's comments where the text allows it.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_STRING, ModelConfig

from client.canary import SHARE as CANARY_SHARE
from client.canary import SUFFIX as CANARY_SUFFIX
from client.canary import VERSION as CANARY_VERSION
from serving.errors import MissingFileError, PublishError
from serving.store.base import CONFIG, VARIANTS, Store, is_config, is_under, variant_path

POLICY = re.compile(r"version_policy\s*:?\s*\{[^{}]*(\{[^{}]*\}[^{}]*)*\}")


def read_config(store: Store, model: str, variant: str = "") -> ModelConfig:
    """A model's configuration; of a variant that the model does not have, its config.pbtxt.

    Raises:
        PublishError: the file is missing or malformed.
    """
    path = f"{model}/{variant_path(variant)}"
    if variant and path not in list_configs(store, model):
        path = f"{model}/{CONFIG}"
    return read_config_file(store, path)


def read_config_file(store: Store, path: str) -> ModelConfig:
    """The configuration in one file. Raises PublishError as `read_config` does."""
    return parse_config(read_text(store, path), f"{store.address}/{path}")


def read_thresholds(configs: Iterable[ModelConfig]) -> dict[str, Any]:
    """What the steps of a task take where a request names nothing.

    That is score_threshold, iou_threshold, and score_thresholds, a list by class, if there is one.
    """
    found = {name: each for config in configs for name, each in config.parameters.items()}
    thresholds: dict[str, Any] = {
        name: float(found[name].string_value)
        for name in ("score_threshold", "iou_threshold")
        if name in found
    }
    by_class = found.get("score_thresholds")
    listed = json.loads(by_class.string_value) if by_class else []
    return thresholds | ({"score_thresholds": listed} if listed else {})


def list_configs(store: Store, model: str) -> list[str]:
    """The paths of a model's configurations: config.pbtxt and its variants, if it has any."""
    return sorted(path for path in store.files() if is_under(path, model) and is_config(path))


def list_variants(files: Iterable[str]) -> dict[str, list[str]]:
    """The models that have each variant, by its name, from the paths of a repository's files."""
    found: dict[str, list[str]] = {}
    for path in sorted(filter(is_config, files)):
        model, *rest = path.split("/")
        if rest[0] == VARIANTS:
            found.setdefault(Path(path).stem, []).append(model)
    return found


def read_text(store: Store, path: str) -> str:
    """A text file of a repository.

    Raises:
        PublishError: there is none, or it is not UTF-8.
    """
    try:
        return store.read(path).decode()
    except MissingFileError:
        raise PublishError(f"{store.address} has no {path}: is it a model repository?") from None
    except UnicodeDecodeError:
        raise PublishError(f"{store.address}/{path} is not UTF-8 text") from None


def parse_config(text: str, name: str = CONFIG) -> ModelConfig:
    """The configuration that the text of a config.pbtxt describes.

    Raises:
        PublishError: it is malformed.
    """
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise PublishError(f"{name} cannot be read: {error}") from None


def takes_photos(config: ModelConfig) -> bool:
    """Whether a model is an ensemble whose one input is encoded images."""
    inputs = [(tensor.name, tensor.data_type) for tensor in config.input]
    return config.HasField("ensemble_scheduling") and inputs == [("image", TYPE_STRING)]


def list_networks(ensemble: ModelConfig) -> list[tuple[str, int]]:
    """The networks of an ensemble, the steps that take `images`, with the version that each names.

    More than one: the ensemble is a fusion.
    """
    steps = ensemble.ensemble_scheduling.step
    return [(step.model_name, step.model_version) for step in steps if "images" in step.input_map]


def is_python(config: ModelConfig) -> bool:
    """Whether stubs run a model: the Python backend, or a backend written in Python."""
    return config.backend == "python" or config.runtime == "model.py"


def list_version_numbers(files: Iterable[str]) -> set[int]:
    """The numbers of a model's version folders that hold a file, from the paths of its files."""
    folders = [path.split("/")[1] for path in files if path.count("/") > 1]
    return {int(name) for name in folders if name.isdecimal()}


def with_policy(text: str, served: frozenset[int] | None) -> str:
    """A network's configuration that serves these versions; None: the newest one."""
    config = parse_config(text)
    if served is None:
        config.version_policy.latest.num_versions = 1
        block = "version_policy { latest { num_versions: 1 } }"
    else:
        config.version_policy.specific.versions[:] = sorted(served)
        block = f"version_policy {{ specific {{ versions: {sorted(served)} }} }}"
    return _keep_comments(POLICY.sub(block, text, count=1), config)


def with_pin(text: str, network: str, version: int) -> str:
    """An ensemble's configuration that uses this version of the network."""
    config = parse_config(text)
    for step in config.ensemble_scheduling.step:
        if step.model_name == network:
            step.model_version = version
    place = rf'(model_name\s*:\s*"{re.escape(network)}"\s+model_version\s*:\s*)-?\d+'
    return _keep_comments(re.sub(place, rf"\g<1>{version}", text), config)


def _keep_comments(edited: str, wanted: ModelConfig) -> str:
    """The edited text if it says what is wanted, else the configuration without comments."""
    try:
        if parse_config(edited) == wanted:
            return edited
    except PublishError:
        pass
    return str(text_format.MessageToString(wanted))


def make_canary_config(text: str, ensemble: str, network: str, version: int, share: float) -> str:
    """The configuration of a canary, made from the text of the ensemble's own."""
    config = parse_config(with_pin(text, network, version))
    config.name = ensemble + CANARY_SUFFIX
    config.parameters[CANARY_SHARE].string_value = str(share)
    config.parameters[CANARY_VERSION].string_value = str(version)
    return (
        f"# {ensemble} with version {version} of {network}, for a share of the clients that ask "
        f"for it.\n# Made by `serving canary`; promote and rollback take it away.\n"
        + text_format.MessageToString(config)
    )
