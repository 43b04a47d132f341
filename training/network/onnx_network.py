"""An exported network in ONNX Runtime, and what it says of itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from training.data.trained_on import TrainedOn, of_facts
from training.errors import TrainingError
from training.network.presets import Preset, Resize


@dataclass(frozen=True)
class OnnxNetwork:
    """A session with the facts that `training export` wrote into the file."""

    session: Any  # onnxruntime.InferenceSession, or a LiteSession of the same network
    labels: tuple[str, ...]
    input_size: int
    trained_on: TrainedOn
    resize: Resize = "stretch"
    iou_threshold: float = Preset.iou_threshold  # of NMS
    voting_iou: float = Preset.voting_iou
    score_thresholds: tuple[float, ...] = ()  # by class, to serve it with; none: one for all

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 [B, S, S, 3] -> `boxes` float32 [B, K, 4], xyxy, 0..1; `scores` [B, K, C]."""
        names = ["boxes", "scores"]
        return dict(zip(names, self.session.run(names, {"images": images}), strict=True))

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Boxes and scores side by side, float32 [B, K, 4 + C]."""
        outputs = self(images)
        return np.concatenate([outputs["boxes"], outputs["scores"]], axis=-1)


def load_onnx(network: Path | bytes) -> OnnxNetwork:
    """An ONNX file, or its content.

    Raises:
        TrainingError: it is no network that `training export` wrote.
    """
    name = network if isinstance(network, Path) else "the network"
    if isinstance(network, Path) and not network.is_file():
        raise TrainingError(f"{network}: no such file")
    try:
        session = open_session(network)
        facts = session.get_modelmeta().custom_metadata_map
        labels = tuple(json.loads(facts["labels"]))
        size, resize = session.get_inputs()[0].shape[1], facts.get("resize", "stretch")
        shares = ("iou_threshold", "voting_iou")
        numbers = [float(facts.get(name, getattr(Preset, name))) for name in shares]
        thresholds = tuple(json.loads(facts.get("score_thresholds", "[]")))
        known = of_facts(facts)
        return OnnxNetwork(session, labels, size, known, resize, numbers[0], numbers[1], thresholds)
    except Exception as error:  # onnxruntime raises many types of its own
        raise TrainingError(
            f"{name} is no model.onnx of `training export`: {str(error).splitlines()[0]}"
        ) from None


def open_session(network: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """On the CPU; 0 threads: one for each core."""
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its errors arrive as exceptions
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def set_metadata(model: onnx.ModelProto, card: dict[str, Any]) -> None:
    """Write a card's facts into a model, so that the lone file still explains itself."""
    del model.metadata_props[:]
    facts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in card.items()}
    onnx.helper.set_model_props(model, facts)


def difference(rows: np.ndarray, others: np.ndarray, slack: float) -> float:
    """Largest `row_difference` of any image, both ways; not a number where an output is none.

    Args:
        rows, others: boxes and scores of the same images, [B, K, 4 + C].
        slack: as `row_difference` takes it.
    """
    pairs = [*zip(rows, others, strict=True), *zip(others, rows, strict=True)]
    return float(np.max([row_difference(*pair, slack) for pair in pairs]))


def row_difference(rows: np.ndarray, others: np.ndarray, slack: float) -> float:
    """Largest distance of a row (box and scores, [K, 4 + C]) to the nearest of the other rows.

    Not row by row: boxes whose best scores differ by rounding alone may change places, and those
    whose score is within `slack` of the last one may fall to either side of the best-K cut, hence
    are left out.
    """
    best = rows[:, 4:].max(axis=1)
    settled = rows[best > best.min() + slack]
    if not len(settled):
        return 0.0
    distances = np.abs(settled[:, None] - others[None]).max(axis=-1)  # [settled, K]
    return float(distances.min(axis=1).max())
