"""The shipped network in LiteRT beside ONNX Runtime: milliseconds an image, and mAP.

    python -m benchmarks.litert data/records --output benchmarks/results/litert.json

In float32, float16 and int8, both of the same weights and calibrated on the same photos. ONNX
Runtime has the options of `LocalDetector`. All take turns, in another order each time, and what is
timed is the second of two images in a row, so that no one pays for the caches and the waiting
threads of whoever came before. The network was trained on all of the blood cell photos: its mAP is
there to be compared with that of the same network, not to be believed.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import tyro
from tqdm import tqdm

from benchmarks.measurement.figures import show_figures, spread
from benchmarks.measurement.machine import describe_machine
from benchmarks.measurement.shipped import SHIPPED, load_detector
from client.local.steps import Network
from training.data import records
from training.evaluation.measure import measure_network
from training.export import precisions, quantize
from training.export.tflite import Lite
from training.network import onnx_network
from training.network.lite_network import LiteSession

WARM_UP = 5  # rounds
RUNTIMES = {".onnx": "ONNX Runtime", ".tflite": "LiteRT"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Measure the shipped network in both runtimes and three precisions."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote: train calibrates, val measures mAP."""
    rounds: int = 200
    """Images that each is timed on."""
    threads: tuple[int, ...] = (1, 2)
    """Of one network at work."""
    images: int = precisions.IMAGES
    """Images to calibrate with."""
    output: Path | None = None
    """JSON file to write the figures to."""


def _write_networks(s: Settings, folder: Path) -> dict[str, Path]:
    """Files by what they are called: the runtime and the precision."""
    in_onnx, known = onnx.load(SHIPPED), onnx_network.load_onnx(SHIPPED)
    train = records.load_manifest(s.records, "train")
    images = precisions.read_images(train, known.input_size, s.images, known.resize)
    lite = Lite(load_detector(), known.input_size)
    made = {
        "float32.onnx": in_onnx.SerializeToString(),
        "float32.tflite": lite.network,
        "float16.onnx": quantize.to_float16(in_onnx).SerializeToString(),
        "float16.tflite": lite.to_float16(),
        "int8.onnx": quantize.to_int8(in_onnx, list(images)).SerializeToString(),
        "int8.tflite": lite.to_int8(images),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return {f"{RUNTIMES[Path(name).suffix]}, {Path(name).stem}": folder / name for name in made}


def open_network(path: Path, threads: int) -> Any:
    """A session of either runtime."""
    is_lite = path.suffix == ".tflite"
    return LiteSession(path, threads) if is_lite else Network(path, threads).session


def race_sessions(sessions: Mapping[str, Any], size: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each session in each round, by the clock on the wall."""
    rng = np.random.default_rng(0)
    feed = {"images": rng.integers(0, 256, (1, size, size, 3), np.uint8)}
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in tqdm(range(-WARM_UP, rounds), desc="timing", disable=None, leave=False):
        for name in rng.permutation(list(sessions)):
            sessions[name].run(None, feed)
            began = time.perf_counter()
            sessions[name].run(None, feed)
            if turn >= 0:
                taken[name].append(1e3 * (time.perf_counter() - began))
    return taken


def _measure_networks(s: Settings, paths: dict[str, Path]) -> dict[str, Any]:
    """The figures of each: its mAP, size, and times on so many threads."""
    val, known = records.load_manifest(s.records, "val"), onnx_network.load_onnx(SHIPPED)
    found: dict[str, Any] = {}
    for name, path in tqdm(paths.items(), desc="mAP", disable=None, leave=False):
        network = dataclasses.replace(known, session=open_network(path, max(s.threads)))
        metrics = measure_network(network, val)
        found[name] = {"bytes": path.stat().st_size} | {
            key: round(value, 4)
            for key, value in (("mAP@0.5", metrics.map50), ("mAP@[.5:.95]", metrics.map))
        }
    for threads in s.threads:
        sessions = {name: open_network(path, threads) for name, path in paths.items()}
        times = race_sessions(sessions, known.input_size, s.rounds)
        for name, taken in times.items():
            others = times[f"{RUNTIMES['.onnx']}, {name.split(', ')[1]}"]
            found[name][f"ms, threads: {threads}"] = spread(taken)
            found[name][f"beside ONNX Runtime, threads: {threads}"] = spread(
                [one / other for one, other in zip(taken, others, strict=True)]
            )
    return found


def main(settings: Settings) -> int:
    """Measure all and print the figures."""
    with tempfile.TemporaryDirectory(prefix="litert-") as folder:
        found = _measure_networks(settings, _write_networks(settings, Path(folder)))
    show_figures(
        {
            "machine": describe_machine() | {"ai-edge-litert": version("ai-edge-litert")},
            "rounds": settings.rounds,
            "images to calibrate with": settings.images,
            "networks": found,
        },
        settings.output,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
