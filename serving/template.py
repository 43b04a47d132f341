"""The repository that this project ships, fitted to an artifact of another task."""

import json
import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from client.versions import NEWEST
from serving.artifact import SHARES, Artifact
from serving.model_config import parse_config
from serving.repository import DEFAULT_MODEL, NETWORK_FILE
from serving.store.base import CONFIG, variant_path

TEMPLATE = Path(__file__).parent.parent / "model_repository"


def name_models(ensemble: str) -> dict[str, str]:
    """What the template's models are called in a task of this name; the ensemble comes last."""
    found = sorted(path.parent.name for path in TEMPLATE.glob(f"*/{CONFIG}"))
    parts = [name for name in found if name != DEFAULT_MODEL]
    prefix = "" if ensemble == DEFAULT_MODEL else f"{ensemble}_"
    return {name: prefix + name for name in parts} | {DEFAULT_MODEL: ensemble}


def render_template(
    template: Path, artifact: Artifact, target: Path, ensemble: str = DEFAULT_MODEL
) -> None:
    """Make a repository for another label list, input size or ensemble's name.

    The Python models are copied as they are: they read sizes and labels when they start.
    """
    target.mkdir()
    renamed = name_models(ensemble)
    for old, new in renamed.items():
        network = any((template / old).glob(f"*/{NETWORK_FILE}"))
        ignore = _leave_versions_out if network else None
        shutil.copytree(template / old, target / new, ignore=ignore)
        for path in [target / new / CONFIG, *(target / new).glob(variant_path("*"))]:
            config = parse_config(path.read_text(encoding="utf-8"), str(path))
            _fit_config(config, artifact, renamed)
            path.write_text(text_format.MessageToString(config), encoding="utf-8")
        if network:
            (target / new / "1").mkdir()
            shutil.copyfile(artifact.network, target / new / "1" / NETWORK_FILE)
    for labels in target.glob("*/labels.txt"):
        labels.write_text("\n".join(artifact.labels) + "\n", encoding="utf-8")


def _leave_versions_out(folder: str, names: list[str]) -> list[str]:
    """For shutil.copytree: the version folders of a model, not a variant such as 2cores.pbtxt."""
    return [name for name in names if name.isdecimal()]


def _fit_config(config: ModelConfig, artifact: Artifact, names: dict[str, str]) -> None:
    """Put in the models' names, the sizes of the tensors between them, and what the card says."""
    config.name = names[config.name]
    if config.version_policy.HasField("specific"):
        config.version_policy.latest.num_versions = 1
    for step in config.ensemble_scheduling.step:
        step.model_name = names[step.model_name]
        step.model_version = NEWEST
    wanted = {"resize": artifact.signature.resize}
    wanted |= {name: f"{getattr(artifact, name):g}" for name in SHARES}
    wanted["score_thresholds"] = json.dumps(artifact.score_thresholds)
    for key, value in wanted.items():
        if key in config.parameters:
            config.parameters[key].string_value = value
    tensors = [(tensor.name, tensor) for tensor in [*config.input, *config.output]]
    warm_up = [item for sample in config.model_warmup for item in sample.inputs.items()]
    for name, tensor in [*tensors, *warm_up]:
        if name in ("images", "boxes", "scores"):
            tensor.dims[:] = getattr(artifact.signature, name)
