"""What a folder holds that can detect: a model repository, or an artifact that may become one.

A repository has a folder for each model, with its config.pbtxt and its numbered versions. An
ensemble names the three steps; each is known by the tensor that it takes: `image`, `images`,
`scores`; a fusion has several that take `images`. An artifact is what training makes: model.onnx
and labels.txt. It has no code, so the steps are those of the repository that this project ships, as
they are when it is published: with what the artifact's card.json says of them.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from client.errors import DetectorError, InvalidParameter
from client.versions import live_version

SHIPPED = Path(__file__).parents[2] / "model_repository"
CONFIG, NETWORK, LABELS, CARD = "config.pbtxt", "model.onnx", "labels.txt", "card.json"
# From a card into the steps' configurations.
CARRIED = ("resize", "iou_threshold", "voting_iou", "score_thresholds")


@dataclass(frozen=True)
class Step:
    """One model of a repository, in the version that its ensemble uses."""

    config: ModelConfig
    version: Path  # its folder

    @property
    def parameters(self) -> dict[str, str]:
        """The configuration's parameters."""
        return {name: value.string_value for name, value in self.config.parameters.items()}

    def output_dims(self, name: str) -> list[int]:
        """Return an output's shape without the batch dimension."""
        return {tensor.name: list(tensor.dims) for tensor in self.config.output}[name]


@dataclass(frozen=True)
class Models:
    """All that a detection needs."""

    name: str  # the ensemble's, or the artifact's folder
    preprocess: Step
    network: Path  # the ONNX file
    postprocess: Step
    labels: Path
    further: tuple[Path, ...] = ()  # of a fusion: the ONNX files of its other networks


def find_models(folder: Path, model: str = "ensemble", version: int | None = None) -> Models:
    """Find the parts of a repository or an artifact.

    Args:
        folder: either of the two.
        model: the ensemble of a repository.
        version: the network's in a repository; None: the one that the repository serves.

    Raises:
        InvalidParameter: the folder is neither, or holds no such ensemble or version, or a version
            was given for a fusion.
        DetectorError: a configuration is malformed.
    """
    if not folder.is_dir():
        raise InvalidParameter(f"{folder}: no such folder, expected a model repository or artifact")
    if any(folder.glob(f"*/{CONFIG}")):
        return _repository(folder, model, version)
    if (folder / NETWORK).is_file() and (folder / LABELS).is_file():
        return _artifact(folder, version)
    held = sorted(path.name for path in folder.iterdir())
    raise InvalidParameter(
        f"{folder} is neither a model repository (folders with {CONFIG}) nor an artifact "
        f"({NETWORK} and {LABELS}): it holds {', '.join(held[:10]) or 'nothing'}"
    )


def _repository(folder: Path, model: str, version: int | None) -> Models:
    ensemble = _config(folder, model)
    names = {
        tensor: step.model_name
        for step in ensemble.ensemble_scheduling.step
        for tensor in step.input_map
    }
    if not {"image", "images", "scores"} <= names.keys():
        raise InvalidParameter(
            f"{folder}/{model} must be an ensemble whose steps take image, images and scores, "
            f"found {', '.join(names) or 'no steps'}"
        )
    network, *further = _networks(folder, ensemble, version)
    postprocess = _step(folder, ensemble, names["scores"])
    return Models(
        name=model,
        preprocess=_step(folder, ensemble, names["image"]),
        network=network,
        postprocess=postprocess,
        labels=postprocess.version.parent / LABELS,
        further=tuple(further),
    )


def _networks(folder: Path, ensemble: ModelConfig, version: int | None) -> list[Path]:
    """Return the ONNX files of the steps that take `images`: of one step, or of a fusion's."""
    steps = [step for step in ensemble.ensemble_scheduling.step if "images" in step.input_map]
    if len(steps) > 1 and version is not None:
        raise InvalidParameter(
            f"{folder}/{ensemble.name} fuses {len(steps)} networks and names a version of each: "
            "leave version out"
        )
    found = []
    for step in steps:
        named = step.model_version if step.model_version > 0 else None
        network = _step(folder, ensemble, step.model_name, named if version is None else version)
        found.append(network.version / (network.config.default_model_filename or NETWORK))
    return found


def _artifact(folder: Path, version: int | None) -> Models:
    if version is not None:
        raise InvalidParameter(f"{folder} is an artifact, which has no version {version}")
    if not SHIPPED.is_dir():
        raise InvalidParameter(
            f"{folder} is an artifact, which has no code for preprocessing and postprocessing, and "
            f"the repository with that code is not at {SHIPPED}: take a repository that `python -m "
            "serving publish` made of the artifact"
        )
    shipped = _repository(SHIPPED, "ensemble", None)
    for key, value in _read_card(folder / CARD).items():
        for step in (shipped.preprocess, shipped.postprocess):
            if key in step.config.parameters:
                step.config.parameters[key].string_value = value
    return replace(
        shipped,
        name=folder.resolve().name,
        network=folder / NETWORK,
        labels=folder / LABELS,
    )


def _read_card(card: Path) -> dict[str, str]:
    """Return what an artifact's card says of the steps; a lone network has none."""
    try:
        said = json.loads(card.read_text(encoding="utf-8"))
        return {key: str(value) for key, value in said.items() if key in CARRIED}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise DetectorError(f"{card} cannot be read: {error}") from None


def _step(folder: Path, ensemble: ModelConfig, model: str, version: int | None = None) -> Step:
    config = _config(folder, model)
    numbers = [int(path.name) for path in (folder / model).iterdir() if path.name.isdecimal()]
    if version is None and numbers:
        version = live_version(ensemble, model, config, numbers)
    if version not in numbers:
        found = ", ".join(map(str, sorted(numbers))) or "no version folder"
        raise InvalidParameter(f"{folder}/{model}: version {version or 1} expected, found {found}")
    return Step(config, folder / model / str(version))


def _config(folder: Path, model: str) -> ModelConfig:
    path = folder / model / CONFIG
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except FileNotFoundError:
        models = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        raise InvalidParameter(f"{folder} has no model {model}, only {', '.join(models)}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DetectorError(f"{path} cannot be read: {error}") from None


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names, line i is class i: split and decoded as server and client do it."""
    try:
        return tuple(line.decode(errors="replace") for line in path.read_bytes().splitlines())
    except FileNotFoundError:
        raise DetectorError(f"{path} is missing: the class names, one a line") from None
