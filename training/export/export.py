"""`training export`: a run becomes an artifact, the folder that `serving publish` takes.

    saved_model/   the network, signature `serving_default`; only in float32
    model.onnx     the same network
    labels.txt     line i is class i, no background line
    card.json      preset, precision, input size, resize, default boxes, data fingerprint, mAP, the
                   reference for `serving drift`, ...

The graph, in both files: `images` uint8 [batch, S, S, 3] RGB in; `boxes` float32 [batch, K, 4]
xyxy, 0..1, and `scores` float32 [batch, K, C] without background out. Softmax, box decoding and
the best-K cut are inside; no image decoding, no resizing, no NMS. In every precision these tensors
are the same.
"""

import hashlib
import math
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
import tyro

from training import run_folder
from training.data import records
from training.errors import TrainingError
from training.export import precisions, reference
from training.export.simplify import simplify
from training.network import boxes, model, onnx_network
from training.network.default_boxes import default_boxes, describe_default_boxes
from training.network.presets import Preset

OPSET = 17  # tf2onnx' newest that every ONNX Runtime of the last years runs
TOLERANCE = 1e-4  # largest difference of any output between TensorFlow and ONNX Runtime
_RECORDS = tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: those of the run)")


@dataclass(frozen=True)
class ExportSettings:
    """Write the artifact of a training run: SavedModel, ONNX, labels and card.

    int8 is twice as fast on CPUs, float16 is for GPUs. Both are measured on the val split beside
    float32, where there is one, and have no SavedModel.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a training run; its newest checkpoint is exported."""
    output: Path
    """Folder of the artifact; must not exist yet."""
    keep: int = model.KEEP
    """Boxes that leave the network for NMS, the best ones by score (K)."""
    precision: precisions.Precision = "float32"
    """What the exported network computes in."""
    records: Annotated[Path | None, _RECORDS] = None
    """Folder that `training records` wrote: int8 is calibrated on the split that was trained on,
    its mAP and float16's are measured on val, and so is what drift is compared with."""


def export_run(settings: ExportSettings) -> int:
    if settings.output.exists():
        raise TrainingError(f"{settings.output} exists already: choose another --output")
    if settings.keep < 1:
        raise TrainingError(f"--keep must be 1 or more, got {settings.keep}")
    network, preset, labels = run_folder.load_network(settings.run)
    small = settings.precision != "float32"
    photos = precisions.find_photos(settings.run, settings.records) if small else None
    detector = model.Detector(network, preset, settings.keep)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    # Built beside and renamed, so that an artifact that stands at --output is a whole one.
    with tempfile.TemporaryDirectory(dir=settings.output.parent, prefix=".export-") as folder:
        artifact = Path(folder) / "artifact"
        artifact.mkdir()
        card = _make_card(settings.run, preset, labels, detector.keep)
        write_artifact(artifact, detector, preset, labels, card)
        if photos:
            print(precisions.convert_artifact(artifact, settings.precision, photos))
        _seal_card(artifact, _find_val(settings))
        shutil.move(artifact, settings.output)
    size = f"{(settings.output / 'model.onnx').stat().st_size / 1e6:.1f} MB"
    if photos:
        print(f"{settings.output}: ONNX in {settings.precision} ({size}), without a SavedModel")
    else:
        print(f"{settings.output}: SavedModel and ONNX ({size}) agree within {TOLERANCE}")
    return 0


def convert_run(run: Path) -> onnx.ModelProto:
    """A run's newest checkpoint as ONNX in float32, with the card as metadata."""
    network, preset, labels = run_folder.load_network(run)
    detector = model.Detector(network, preset)
    card = _make_card(run, preset, labels, detector.keep)
    return _to_onnx(_serving_function(detector, preset.input_size), card)


def _find_val(settings: ExportSettings) -> records.Manifest | None:
    """The validation split, to measure the reference on; None, and said, where there is none."""
    description = run_folder.read_description(settings.run)
    folder = settings.records or Path(description["settings"]["records"])
    try:
        manifest = records.load_manifest(folder, "val")
        manifest.check_labels(settings.run, tuple(description["labels"]))
    except records.ManifestError as error:
        print(f"no reference on the card, so drift cannot be judged: {error}")
        return None
    return manifest


def _seal_card(artifact: Path, val: records.Manifest | None) -> None:
    """Write into the card what is known of the finished network.

    That is its sha256, for those who copy the artifact or serve it, and what it detects on val.
    """
    card = run_folder.read_json(artifact / "card.json", "an artifact's card")
    with (artifact / "model.onnx").open("rb") as file:
        card["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if val:
        network = onnx_network.load_onnx(artifact / "model.onnx")
        card["reference"] = reference.measure_reference(network, val)
    run_folder.write_json(artifact / "card.json", card)


def write_artifact(
    artifact: Path, detector: model.Detector, preset: Preset, labels: tuple[str, ...], card: dict
) -> None:
    """Write all files of an artifact into an existing folder, and compare the two graphs.

    Raises:
        TrainingError: SavedModel and ONNX give different outputs.
    """
    (artifact / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    run_folder.write_json(artifact / "card.json", card)
    function = _serving_function(detector, preset.input_size)
    tf.saved_model.save(
        detector, str(artifact / "saved_model"), signatures={"serving_default": function}
    )
    onnx.save(_to_onnx(function, card), artifact / "model.onnx")
    difference = largest_difference(detector, artifact / "model.onnx", preset.input_size)
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"ONNX and TensorFlow differ by {difference:g}, allowed is {TOLERANCE:g}: "
            "this combination of tensorflow and tf2onnx cannot export the network"
        )


def _serving_function(detector: model.Detector, size: int) -> tf.types.experimental.GenericFunction:
    signature = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    return tf.function(detector.call, input_signature=[signature])


def _to_onnx(
    function: tf.types.experimental.GenericFunction, card: dict[str, Any]
) -> onnx.ModelProto:
    """The function as ONNX, its batch dimension named, with the card as metadata."""
    graph, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)
    names = sorted(output.name for output in graph.graph.output)
    if names != ["boxes", "scores"]:
        raise TrainingError(f"the ONNX outputs must be boxes and scores, got {', '.join(names)}")
    for tensor in (*graph.graph.input, *graph.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.graph.value_info[:]  # intermediate shapes carry tf2onnx' own names for the batch
    onnx_network.set_metadata(graph, card)
    simplify(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def largest_difference(detector: model.Detector, path: Path, size: int) -> float:
    """Between Keras and ONNX Runtime over all outputs, at batch 1 and 3, on random images.

    Infinite where either gives a number that is not finite.
    """
    session = onnx_network.open_session(path)
    generator = np.random.default_rng(0)
    worst = 0.0
    for batch in (1, 3):
        images = generator.integers(0, 256, (batch, size, size, 3), np.uint8)
        wanted = detector(tf.constant(images))
        wanted_rows = np.concatenate([wanted["boxes"], wanted["scores"]], axis=-1)
        found_rows = np.concatenate(session.run(["boxes", "scores"], {"images": images}), axis=-1)
        if not (np.isfinite(wanted_rows).all() and np.isfinite(found_rows).all()):
            return math.inf
        worst = max(worst, onnx_network.difference(wanted_rows, found_rows, slack=TOLERANCE))
    return worst


def _make_card(folder: Path, preset: Preset, labels: tuple[str, ...], keep: int) -> dict[str, Any]:
    description = run_folder.read_description(folder)
    settings = {k: v for k, v in description["settings"].items() if k not in ("records", "output")}
    for name in ("default_boxes", "pretrained"):
        if settings.get(name):  # a path says nothing on another machine, its last part may
            settings[name] = Path(settings[name]).name
    return {
        "preset": preset.name,
        "precision": "float32",
        "input_size": preset.input_size,
        "resize": preset.resize,
        "iou_threshold": preset.iou_threshold,
        "voting_iou": preset.voting_iou,
        "keep": keep,
        "labels": list(labels),
        "step": run_folder.newest_step(folder),
        "metrics": run_folder.read_metrics(folder),
        "data_fingerprint": description["fingerprint"],
        "trained_on": run_folder.trained_on(folder).to_dict(),
        "chosen_on": description.get("chosen_on"),  # a split, of a run's best weights
        "settings": settings,
        "preset_settings": asdict(preset),
        "default_boxes": {
            "count": len(default_boxes(preset)),
            "variances": boxes.VARIANCES,
            "feature_maps": describe_default_boxes(preset),
        },
        "git_commit": _git_commit(),
        "versions": {
            name: version(name) for name in ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")
        },
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_commit() -> str | None:
    """Of the code that exports; None outside a git checkout."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
