"""The shipped network for LiteRT, made once a session: it takes seconds."""

import functools
import json
import shutil
from pathlib import Path

import onnx

from benchmarks.measurement.shipped import SHIPPED, load_detector
from tests.conftest import PROJECT
from training.export.tflite import FILE, Lite


@functools.cache
def shipped_lite() -> Lite:
    return Lite(load_detector(), 300)


def write_artifact(folder: Path) -> Path:
    """The shipped network as an artifact with model.tflite, all in float32."""
    shutil.copy(SHIPPED, folder / "model.onnx")
    shutil.copy(PROJECT / "model_repository" / "postprocess" / "labels.txt", folder)
    (folder / FILE).write_bytes(shipped_lite().network)
    facts = {entry.key: entry.value for entry in onnx.load(SHIPPED).metadata_props}
    numbers = {k: json.loads(facts[k]) for k in ("input_size", "iou_threshold", "voting_iou")}
    card = numbers | {"resize": facts["resize"]}
    (folder / "card.json").write_text(json.dumps(card))
    return folder
