"""What postprocess costs with all of SSD300's boxes: 8,732 of 20 classes, as for Pascal VOC.

    python -m benchmarks.uncut --output benchmarks/results/uncut.json

The shipped networks hand over the best 400 boxes. Here a network that computes nothing hands over
8,732, of which a few are candidates, in the real server; the times are Triton's own counts of the
model postprocess: the transfer of its input and output, and the step itself. Around it everything
is as shipped, one request at a time.
"""

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tyro
from onnx import TensorProto, helper, numpy_helper
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.ensemble import ensemble, repository_with
from benchmarks.contestants.served import Served
from benchmarks.contestants.slice import ContestantError
from benchmarks.measurement import machine
from benchmarks.measurement.photos import find_photos
from benchmarks.measurement.triton_statistics import PARTS, a_request, difference, read_statistics

BOXES, CLASSES = 8732, 20
CANDIDATES = 30  # boxes above the score threshold
SIDE = 300


@dataclass(frozen=True)
class Settings:
    """Measure postprocess with 8,732 boxes of 20 classes."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs."""
    slices: int = 10
    """Turns; the table shows the fastest, the median and the slowest."""
    seconds: float = 1.0
    """Of each turn."""
    output: Path | None = None
    """JSON file to write the figures to."""


def network(boxes: np.ndarray, scores: np.ndarray) -> onnx.ModelProto:
    """A network that answers the same for every image.

    Args:
        boxes: float32 [K, 4].
        scores: float32 [K, C].
    """
    nodes = [
        helper.make_node("Shape", ["images"], ["batch"], end=1),
        *(
            node
            for name, array in (("boxes", boxes), ("scores", scores))
            for node in (
                helper.make_node("Concat", ["batch", f"{name}_sizes"], [f"{name}_all"], axis=0),
                helper.make_node("Expand", [f"{name}_of_one", f"{name}_all"], [name]),
            )
        ),
    ]
    constants = [
        numpy_helper.from_array(value, f"{name}_{role}")
        for name, array in (("boxes", boxes), ("scores", scores))
        for role, value in (("of_one", array[None]), ("sizes", np.array(array.shape)))
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *array.shape])
        for name, array in (("boxes", boxes), ("scores", scores))
    ]
    graph = helper.make_graph(nodes, "uncut", [images], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def random_boxes() -> tuple[np.ndarray, np.ndarray]:
    """xyxy in 0..1 [8732, 4], and probabilities [8732, 20] as a trained network's: nearly all 0."""
    rng = np.random.default_rng(0)
    corners = rng.random((2, BOXES, 2), np.float32)
    scores = rng.random((BOXES, CLASSES), np.float32) * 0.05
    scores[rng.choice(BOXES, CANDIDATES, replace=False), rng.integers(CLASSES, size=CANDIDATES)] = (
        rng.uniform(0.5, 1, CANDIDATES)
    )
    return np.concatenate([corners.min(0), corners.max(0)], axis=1), scores


def resize(repository: Path) -> None:
    """Change the configurations of a repository to so many boxes and classes."""
    for model in ("ssd", "postprocess"):
        for path in (repository / model).glob("**/*.pbtxt"):
            text = re.sub(r"dims: \[ 400, 4 \]", f"dims: [ {BOXES}, 4 ]", path.read_text())
            path.write_text(re.sub(r"dims: \[ 400, 3 \]", f"dims: [ {BOXES}, {CLASSES} ]", text))
    labels = "".join(f"class {number}\n" for number in range(CLASSES))
    (repository / "postprocess" / "labels.txt").write_text(labels)


def _measure_postprocess(settings: Settings, folder: Path) -> dict[str, Any]:
    """Microseconds a request, of each turn."""
    onnx.save(network(*random_boxes()), folder / "uncut.onnx")
    photos = find_photos(settings.photos)
    turns = []
    with repository_with(folder / "uncut.onnx", ROOT / "model_repository") as repository:
        resize(repository)
        with Served(ensemble(repository), photos, (), folder / "log") as server:
            server.run(1, 1.0)
            for _ in tqdm(range(settings.slices), disable=None):
                before = read_statistics(server.address)
                server.run(1, settings.seconds)
                counts = difference(before, read_statistics(server.address))
                turns.append(a_request([counts["postprocess"]]))
    return {
        "machine": machine.describe_machine(),
        "boxes": BOXES,
        "classes": CLASSES,
        "candidates": CANDIDATES,
        "postprocess_us": turns,
    }


def table(turns: list[dict[str, float]]) -> str:
    """Markdown: each part's times."""
    lines = ["| µs a photo | fastest | median | slowest |", "|---|---|---|---|"]
    for part in (*PARTS, "total"):
        times = sorted(turn[part] for turn in turns)
        cells = (times[0], times[len(times) // 2], times[-1])
        lines.append(f"| {part} | {' | '.join(f'{time:.0f}' for time in cells)} |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="uncut-") as folder:
        result = _measure_postprocess(settings, Path(folder))
    if settings.output:
        settings.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result["postprocess_us"]))


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except ContestantError as error:
        sys.exit(f"error: {error}")
