"""One network in float32, float16 and int8: its speed and its mAP.

    python -m benchmarks.precision data/records artifacts/cells/model.onnx \
        --output benchmarks/results/precision.json

In ONNX Runtime with one thread, one image at a time, the precisions taking turns, so that whatever
else the machine does meets all of them. Speeds are to be compared within a run only. With --save
the networks are kept: `model_repository/ssd/2` was made so.
"""

import dataclasses
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import tyro
from tqdm import tqdm

from benchmarks.measurement import machine
from benchmarks.measurement.figures import show_figures
from benchmarks.measurement.race import race_networks
from training.data import records
from training.evaluation.measure import measure_network
from training.export import precisions, quantize
from training.export.simplify import simplify
from training.network import onnx_network


@dataclasses.dataclass(frozen=True)
class Settings:
    """Measure networks in each precision."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote: train calibrates, val measures mAP."""
    networks: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """ONNX files in float32, of `training export`."""
    rounds: int = 200
    """Images that each precision is timed on."""
    images: int = precisions.IMAGES
    """Images to calibrate with."""
    percentile: bool = False
    """Also calibrate by percentiles, which takes minutes."""
    save: Path | None = None
    """Folder to write the files to."""
    output: Path | None = None
    """JSON file to write the figures to."""


def _make_precisions(
    network: onnx.ModelProto, images: list[np.ndarray], percentile: bool
) -> dict[str, onnx.ModelProto]:
    """The network in each precision, by name; the first is the file as it is."""
    made = onnx.ModelProto()
    made.CopyFrom(network)
    simplify(made)
    found = {
        "as given": network,
        "float32": made,
        "float16": quantize.to_float16(network),
        "int8": quantize.to_int8(network, images),
        "int8, weights in 8 bits": quantize.to_int8(network, images, reduce_range=False),
    }
    if percentile:
        found["int8, percentile"] = quantize.to_int8(network, images, "percentile")
    return found


def _measure_precisions(path: Path, settings: Settings) -> dict[str, Any]:
    """One network in all precisions."""
    network = onnx.load(path)
    train, val = (records.load_manifest(settings.records, split) for split in ("train", "val"))
    facts = onnx_network.load_onnx(path)
    images = list(precisions.read_images(train, facts.input_size, settings.images, facts.resize))
    made = _make_precisions(network, images, settings.percentile)
    for made_network in [made[name] for name in made if name.startswith("int8")]:
        _label_network(made_network, "int8", precisions.describe_calibration(train, len(images)))
    _label_network(made["float16"], "float16", None)
    if settings.save:
        save(made, settings.save / path.parent.name)
    files = {name: network.SerializeToString() for name, network in made.items()}
    times = race_networks(files, settings.rounds)
    return {
        name: figures(times[name], times["float32"])
        | accuracy(made[name], val)
        | {"bytes": made[name].ByteSize()}
        for name in tqdm(made, desc="mAP", disable=None, leave=False)
    }


def _label_network(
    network: onnx.ModelProto, precision: str, calibration: dict[str, Any] | None
) -> None:
    """Add to a network's metadata what it is; its mAP, measured on float32, is removed."""
    facts = {entry.key: entry.value for entry in network.metadata_props}
    facts |= {"precision": precision, "metrics": "null"}
    if calibration:
        facts["calibration"] = json.dumps(calibration)
    onnx_network.set_metadata(network, facts)


def save(made: dict[str, onnx.ModelProto], folder: Path) -> None:
    """Write the files, each named as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in made.items():
        onnx.save(network, folder / f"{name.replace(', ', '-').replace(' ', '-')}.onnx")


def figures(times: list[float], base: list[float]) -> dict[str, Any]:
    """A precision's times, and how much faster than float32 it was in the same turn."""
    faster = [b / t for b, t in zip(base, times, strict=True)]
    return {
        "ms, fastest": round(min(times), 2),
        "ms, quartiles": [round(x, 2) for x in statistics.quantiles(times, n=4)],
        "times float32's speed, quartiles": [
            round(x, 2) for x in statistics.quantiles(faster, n=4)
        ],
    }


def accuracy(network: onnx.ModelProto, val: records.Manifest) -> dict[str, float]:
    """mAP on val."""
    found = measure_network(onnx_network.load_onnx(network.SerializeToString()), val)
    return {"mAP@0.5": round(found.map50, 4), "mAP@[.5:.95]": round(found.map, 4)}


def where() -> dict[str, Any]:
    """What this runs on."""
    info = machine.processor()
    return {
        "processor": info.get("model name", platform.processor()),
        "instructions": machine.flags(info),
        "onnxruntime": onnxruntime.__version__,
    }


def main(settings: Settings) -> int:
    """Measure each network and print the figures."""
    found = {str(path): _measure_precisions(path, settings) for path in settings.networks}
    show_figures({"machine": where(), "rounds": settings.rounds, **found}, settings.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
