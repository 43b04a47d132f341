"""The float32 network of an artifact becomes one of another precision, whose card tells its mAP.

Of the records, the split that the run was trained on gives the images to calibrate int8 with, and
`val`, where there is one, those to measure both networks on, in ONNX Runtime. The SavedModel is
left out: it would be another network.
"""

import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from training import run_folder
from training.data import records
from training.errors import TrainingError
from training.evaluation import measure
from training.evaluation.score import Metrics
from training.export import quantize
from training.input import input_pipeline
from training.network import onnx_network
from training.network.calibration import NONE, Calibration
from training.network.presets import Resize

Precision = Literal["float32", "float16", "int8"]
IMAGES = 64  # to calibrate with; 32 to 205 of the blood cells' give the same mAP within 0.001
COMPARED = 16  # photos on which float16 is compared with float32
FLOAT16_TOLERANCE = 0.01  # largest difference of a box's sides and scores there; 0.003 was seen


@dataclass(frozen=True)
class Photos:
    """The splits that a conversion needs; without val nothing is measured."""

    calibration: records.Manifest
    val: records.Manifest | None


def find_photos(run: Path, folder: Path | None) -> Photos:
    """The splits in this folder of records, or in the one that the run was trained on.

    Raises:
        TrainingError: there is no such folder, no split to calibrate with, or other labels.
    """
    description = run_folder.read_description(run)
    settings = description["settings"]
    source = folder or Path(settings["records"])
    if not source.is_dir():
        whose = "" if folder else f", which {run} was trained on,"
        raise TrainingError(
            f"the records {source}{whose} are not there, and another precision needs photos to "
            "calibrate with, and to measure mAP on: name a folder that `training records` wrote "
            "with --records"
        )
    calibration = records.load_manifest(source, settings["train_split"])
    has_val = (source / "val.json").exists()
    photos = Photos(calibration, records.load_manifest(source, "val") if has_val else None)
    for manifest in filter(None, (photos.val, photos.calibration)):
        manifest.check_labels(run, tuple(description["labels"]))
    return photos


def convert_artifact(
    artifact: Path, precision: Precision, photos: Photos, calibration: Calibration = NONE
) -> Metrics | None:
    """Replace an artifact's network, and what its card says of it.

    calibration: what its scores are put through, which makes small differences larger.

    Returns:
        What float32 reaches on val; None where there is none.

    Raises:
        TrainingError: float16 gives other outputs.
    """
    path = artifact / "model.onnx"
    network, before = onnx.load(path), onnx_network.load_onnx(path)
    facts: dict[str, Any] = {"precision": precision, "metrics": None}
    if precision == "int8":
        images = read_images(photos.calibration, before.input_size, IMAGES, before.resize)
        converted = quantize.to_int8(network, list(images))
        facts["calibration"] = describe_calibration(photos.calibration, len(images))
    else:
        converted = quantize.to_float16(network)
    if precision == "float16":
        after = onnx_network.load_onnx(converted.SerializeToString())
        check_float16(before, after, photos, calibration)
    old = measure.measure_network(before, photos.val) if photos.val else None
    if old:
        facts["metrics_float32"] = old.to_dict()
    write_facts(artifact, converted, facts)
    shutil.rmtree(artifact / "saved_model", ignore_errors=True)
    return old


def check_float16(
    network: onnx_network.OnnxNetwork,
    other: onnx_network.OnnxNetwork,
    photos: Photos,
    calibration: Calibration = NONE,
) -> None:
    """Refuse a network in float16 that gives other outputs, on some of the photos.

    Raises:
        TrainingError: they differ by more than `FLOAT16_TOLERANCE`.
    """
    compared = photos.val or photos.calibration
    images = read_images(compared, network.input_size, COMPARED, network.resize)
    allowed = FLOAT16_TOLERANCE * max(1, 1 / calibration.temperature)
    check_close(network, other, images, allowed)


def describe_calibration(manifest: records.Manifest, images: int) -> dict[str, Any]:
    """What a network was calibrated with, for its card."""
    return {
        "method": "minmax",
        "weight_bits": 7,  # 8 in depthwise convolutions
        "images": images,
        "split": manifest.split,
        "data_fingerprint": manifest.fingerprint,
    }


def read_images(
    manifest: records.Manifest, size: int, count: int, resize: Resize = "stretch"
) -> np.ndarray:
    """Some images of a split, spread evenly over it: uint8 [count at most, size, size, 3]."""
    step = max(1, manifest.count // count)
    examples = records.dataset(manifest).shard(step, 0).take(count)
    images = examples.map(
        lambda x: input_pipeline.prepare_evaluation_example(x, size, resize)["images"]
    )
    return np.stack(list(images.as_numpy_iterator()))


def check_close(
    network: onnx_network.OnnxNetwork,
    other: onnx_network.OnnxNetwork,
    images: np.ndarray,
    allowed: float = FLOAT16_TOLERANCE,
) -> None:
    """Refuse a network whose boxes and scores are others.

    Raises:
        TrainingError: they differ by more than is allowed.
    """
    worst = onnx_network.difference(network.rows(images), other.rows(images), allowed)
    if not worst <= allowed:
        raise TrainingError(
            f"float16 gives boxes or scores that differ by {worst:g} from float32's, allowed is "
            f"{allowed:g}: this network needs float32"
        )


def write_facts(artifact: Path, network: onnx.ModelProto, facts: dict[str, Any]) -> None:
    """Write the network with further facts, into the card and into its metadata."""
    card = run_folder.read_json(artifact / "card.json", "an artifact's card") | facts
    card["versions"] = card["versions"] | {"onnxruntime": version("onnxruntime")}
    run_folder.write_json(artifact / "card.json", card)
    onnx_network.set_metadata(network, card)
    onnx.save(network, artifact / "model.onnx")


def compare_metrics(
    precision: Precision, photos: Photos, old: Metrics | None, new: Metrics | None
) -> str:
    """What float32 and the new network reach on val, side by side, or that there is none."""
    if old is None or new is None:
        return f"{photos.calibration.directory} holds no val split: mAP in {precision} is not known"
    map50, map_ = new.names
    lines = [f"{new.images} images, {new.held_out}", f"{'':9}  {map50}  {map_}"]
    lines += [
        f"{name:9}  {metrics.map50:{len(map50)}.3f}  {metrics.map:{len(map_)}.3f}"
        for name, metrics in (("float32", old), (precision, new))
    ]
    return "\n".join(lines)
