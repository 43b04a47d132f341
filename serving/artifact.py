"""Reads an artifact, the folder that training makes, and refuses one that cannot be served.

In: model.onnx, labels.txt (line i is class i) and card.json. The network takes `images`, uint8
[batch, S, S, 3], and gives `boxes`, float32 [batch, K, 4], and `scores`, float32 [batch, K, C].
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import uses_external_data

from serving.errors import PublishError, first_line

RESIZES = ("stretch", "letterbox")  # as in model_repository/preprocess
SHARES = ("iou_threshold", "voting_iou")
TYPES = {"images": "tensor(uint8)", "boxes": "tensor(float)", "scores": "tensor(float)"}


@dataclass(frozen=True)
class Signature:
    """What fixes a repository: the sizes of the tensors between its models, and what is in them."""

    images: tuple[int, ...]  # S, S, 3
    boxes: tuple[int, ...]  # K, 4
    scores: tuple[int, ...]  # K, C
    resize: str = RESIZES[0]  # how a photo becomes `images`


@dataclass(frozen=True)
class Artifact:
    """An artifact that was checked and run once."""

    network: Path  # model.onnx
    labels: tuple[str, ...]
    signature: Signature
    iou_threshold: float = 0.45  # of NMS, as the network was measured
    voting_iou: float = 0.0  # of box voting; 0: none
    score_thresholds: tuple[float, ...] = ()  # by class, 0 to 1; none: one for all, the service's
    reference: dict[str, Any] | None = None  # of the validation set, for `drift`; as on the card


def read_artifact(folder: Path) -> Artifact:
    """Read, check and try an artifact.

    Raises:
        PublishError: naming the file, what was expected and what was found.
    """
    for name in ("model.onnx", "labels.txt", "card.json"):
        if not (folder / name).is_file():
            raise PublishError(f"{folder} is no artifact: {name} is missing; {_remedy(folder)}")
    card = _read_card(folder / "card.json")
    _check_digest(folder / "model.onnx", card)
    labels = _read_labels(folder / "labels.txt")
    session = _open_network(folder / "model.onnx")
    resize = _read_resize(folder / "card.json", card)
    signature = _read_signature(session, len(labels), resize)
    _try_network(session, signature)
    iou_threshold, voting_iou = [_read_share(folder / "card.json", card, name) for name in SHARES]
    thresholds = _read_thresholds(folder / "card.json", card, len(labels))
    reference = _read_reference(folder / "card.json", card)
    network = folder / "model.onnx"
    return Artifact(network, labels, signature, iou_threshold, voting_iou, thresholds, reference)


def _remedy(folder: Path) -> str:
    """What to do where a folder is no artifact; that of `training run` holds some."""
    inner = folder / "int8"
    is_one = (inner / "model.onnx").is_file()
    return f"{inner} is one" if is_one else "python -m training export makes one"


def _read_card(path: Path) -> dict[str, Any]:
    """The card: for people, except for sha256, resize, SHARES, score_thresholds and reference."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PublishError(f"{path} is not JSON: {error}") from None
    if not isinstance(card, dict):
        raise PublishError(f"{path} must hold one JSON object, found a {type(card).__name__}")
    return card


def _check_digest(path: Path, card: dict[str, Any]) -> None:
    """The network is the one that was exported. Cards of older artifacts hold no sha256."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if (expected := card.get("sha256", found)) != found:
        raise PublishError(
            f"{path} is not the file that was exported: expected sha256 {expected} (card.json), "
            f"found {found}: copy or export the artifact again"
        )


def _read_resize(path: Path, card: dict[str, Any]) -> str:
    """How the network wants photos resized. Cards of older artifacts do not say."""
    if (resize := card.get("resize", RESIZES[0])) not in RESIZES:
        raise PublishError(
            f"{path}: resize must be {' or '.join(RESIZES)}, found {resize!r}: this version cannot "
            "prepare photos for the network"
        )
    return resize


def _read_share(path: Path, card: dict[str, Any], name: str) -> float:
    """Which boxes are taken for those of one object. Cards of older artifacts do not say."""
    found = card.get(name, getattr(Artifact, name))
    if type(found) not in (int, float) or not 0 <= found <= 1:
        raise PublishError(f"{path}: {name} must be a number from 0 to 1, found {found!r}")
    return float(found)


def _read_thresholds(path: Path, card: dict[str, Any], classes: int) -> tuple[float, ...]:
    """The score threshold of each class, where training was asked for some."""
    found = card.get("score_thresholds", [])
    is_list = isinstance(found, list) and len(found) in (0, classes)
    if not is_list or any(type(x) not in (int, float) or not 0 <= x <= 1 for x in found):
        raise PublishError(
            f"{path}: score_thresholds must be a number from 0 to 1 for each of the {classes} "
            f"labels, found {found!r:.60}"
        )
    return tuple(float(x) for x in found)


def _read_reference(path: Path, card: dict[str, Any]) -> dict[str, Any] | None:
    """What live is compared with. Cards of older artifacts do not say."""
    if (reference := card.get("reference")) is None:
        return None
    try:
        for statistic in reference["statistics"].values():
            for histogram in [statistic] if "edges" in statistic else statistic.values():
                if len(histogram["counts"]) != len(histogram["edges"]) + 1:
                    raise ValueError
    except (KeyError, TypeError, AttributeError, ValueError):
        raise PublishError(
            f"{path}: reference must hold histograms of edges and counts, found "
            f"{reference!r:.60}: export the artifact again"
        ) from None
    return dict(reference)


def _read_labels(path: Path) -> tuple[str, ...]:
    """The class names, one a line."""
    try:
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        raise PublishError(f"{path} is not UTF-8 text") from None
    for number, label in enumerate(labels, start=1):
        if not label.strip():
            raise PublishError(f"{path}: line {number} is empty, expected a class name")
    if not labels or len(set(labels)) < len(labels):
        raise PublishError(f"{path}: expected class names, each once, found {list(labels)}")
    return labels


def _open_network(path: Path) -> onnxruntime.InferenceSession:
    """Check the file by the rules of ONNX, then open it."""
    _check_whole(path)
    try:
        onnx.checker.check_model(path)
        return open_session(path)
    except Exception as error:  # both raise many types of their own
        raise PublishError(f"{path} is not a valid ONNX network: {first_line(error)}") from None


def open_session(network: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open an ONNX file, or its content, on the CPU; 0 threads: one for each core.

    Raises:
        Exception: onnxruntime's own, of many types.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its errors arrive as exceptions
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def _check_whole(path: Path) -> None:
    """A version is one file: weights that lie beside it would be left behind."""
    try:
        network = onnx.load(path, load_external_data=False)
    except Exception:  # `_open_network` says what is wrong with a file that is no network
        return
    others = {
        entry.value
        for tensor in network.graph.initializer
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if others:
        raise PublishError(
            f"{path} keeps its weights in another file, {', '.join(sorted(others))}, expected all "
            "in one: read it with onnx.load, write it with onnx.save"
        )


def _read_signature(session: onnxruntime.InferenceSession, classes: int, resize: str) -> Signature:
    """The sizes of the tensors, each with a free batch dimension before it."""
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    outputs = {tensor.name: tensor for tensor in session.get_outputs()}
    if inputs.keys() != {"images"} or outputs.keys() != {"boxes", "scores"}:
        raise PublishError(
            "model.onnx must have the input images and the outputs boxes and scores, found "
            f"{', '.join(inputs)} and {', '.join(outputs)}"
        )
    sizes = {name: _read_sizes(tensor) for name, tensor in (inputs | outputs).items()}
    size, keep = sizes["images"][0], sizes["boxes"][0]
    expected = {"images": (size, size, 3), "boxes": (keep, 4), "scores": (keep, classes)}
    for name, shape in expected.items():
        if sizes[name] != shape:
            raise PublishError(
                f"model.onnx: {name} must be {['batch', *shape]} for {classes} labels, found "
                f"{['batch', *sizes[name]]}"
            )
    return Signature(sizes["images"], sizes["boxes"], sizes["scores"], resize)


def _read_sizes(tensor: onnxruntime.NodeArg) -> tuple[int, ...]:
    """The tensor's shape without the batch dimension, which must be free."""
    batch, *sizes = tensor.shape or [0]
    if tensor.type != TYPES[tensor.name] or isinstance(batch, int):
        raise PublishError(
            f"model.onnx: {tensor.name} must be {TYPES[tensor.name]} with a free batch dimension, "
            f"found {tensor.type} {tensor.shape}"
        )
    if not sizes or not all(isinstance(size, int) for size in sizes):
        raise PublishError(f"model.onnx: {tensor.name} has free sizes, found {tensor.shape}")
    return tuple(sizes)


def _try_network(session: onnxruntime.InferenceSession, signature: Signature) -> None:
    """Run a blank and a random image as one batch: every output must be finite."""
    try:
        results = session.run(["boxes", "scores"], {"images": probe_images(signature.images)})
    except Exception as error:
        raise PublishError(f"model.onnx fails on a blank image: {error}") from None
    for name, result in zip(("boxes", "scores"), results, strict=True):
        if not np.isfinite(result).all():
            raise PublishError(f"model.onnx gives {name} that are not finite on a test image")


def probe_images(shape: tuple[int, ...]) -> np.ndarray:
    """Two images that are unlike each other: black, and noise. uint8 [2, S, S, 3]."""
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return np.stack([np.zeros(shape, np.uint8), noise])
