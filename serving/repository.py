"""Reads a model repository's configuration and renders a new repository from an existing one."""

import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from serving.artifact import Artifact, Signature
from serving.errors import PublishError

TEMPLATE = Path(__file__).parent.parent / "model_repository"  # the one this project ships
NETWORK = "ssd"  # the model whose versions are the weights
LABELS = Path("postprocess") / "labels.txt"


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """Parse a config.pbtxt.

    Raises:
        PublishError: the file is missing or malformed.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, text_format.ParseError) as error:
        raise PublishError(f"{path} cannot be read: {error}") from None


def read_signature(repository: Path) -> Signature:
    """The tensor sizes that a repository is made for."""
    config = read_config(repository / NETWORK / "config.pbtxt")
    sizes = {tensor.name: tuple(tensor.dims) for tensor in [*config.input, *config.output]}
    try:
        return Signature(**sizes)
    except TypeError:
        raise PublishError(
            f"{repository / NETWORK} must have the tensors images, boxes and scores, found "
            f"{', '.join(sizes)}"
        ) from None


def read_labels(repository: Path) -> tuple[str, ...]:
    """The class names a repository is made for."""
    try:
        return tuple((repository / LABELS).read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise PublishError(f"{repository / LABELS} cannot be read: {error.strerror}") from None


def next_version(repository: Path) -> int:
    """One more than the highest version of the network, 1 without any."""
    folders = (repository / NETWORK).iterdir()
    return max((int(path.name) for path in folders if path.name.isdecimal()), default=0) + 1


def render(template: Path, artifact: Artifact, target: Path) -> None:
    """Make a repository for another label list or input size.

    The Python models are copied as they are: they read sizes and labels when they start.
    """
    shutil.copytree(template, target)
    for path in sorted(target.glob("*/config.pbtxt")):
        config = read_config(path)
        fit(config, artifact.signature)
        path.write_text(text_format.MessageToString(config), encoding="utf-8")
    (target / LABELS).write_text("\n".join(artifact.labels) + "\n", encoding="utf-8")
    for version in [path for path in (target / NETWORK).iterdir() if path.name.isdecimal()]:
        shutil.rmtree(version)
    place(artifact, target / NETWORK / "1")


def fit(config: model_config_pb2.ModelConfig, signature: Signature) -> None:
    """Put the sizes in for the tensors between the models, whichever model names them."""
    for tensor in [*config.input, *config.output]:
        if tensor.name in ("images", "boxes", "scores"):
            tensor.dims[:] = getattr(signature, tensor.name)


def place(artifact: Artifact, version: Path) -> None:
    """Write a version folder."""
    version.mkdir()
    shutil.copyfile(artifact.network, version / "model.onnx")
