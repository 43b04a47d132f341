"""`training export`: a run becomes an artifact, the folder that `serving publish` takes.

    saved_model/   the network, signature `serving_default`; only in float32
    model.onnx     the same network
    model.tflite   the same network, where `--format tflite` asks for it; see `tflite`
    labels.txt     line i is class i, no background line
    card.json      preset, precision, input size, resize, default boxes, data fingerprint, mAP, the
                   reference for `serving drift`, ...

The graph, in both files: `images` uint8 [batch, S, S, 3] RGB in; `boxes` float32 [batch, K, 4]
xyxy, 0..1, and `scores` float32 [batch, K, C] without background out. Softmax, box decoding and
the best-K cut are inside; no image decoding, no resizing, no NMS. In every precision these tensors
are the same.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import onnx
import tensorflow as tf
import tf2onnx
import tyro

from training import run_folder, tracking
from training.data import records
from training.errors import TrainingError
from training.evaluation import measure
from training.evaluation.findings import Findings
from training.evaluation.operating_points import points_table, read_wanted
from training.evaluation.reliability import FEWEST, Reliability
from training.evaluation.score import Metrics
from training.export import card, precisions
from training.export.parity import TOLERANCE, check_parity
from training.export.simplify import simplify
from training.network import model, onnx_network
from training.network.calibration import NONE
from training.network.presets import Preset

OPSET = 17  # tf2onnx' newest that every ONNX Runtime of the last years runs
_NONE = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")
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
    format: Literal["onnx", "tflite"] = "onnx"
    """tflite: model.tflite as well, the same network for LiteRT, on phones and boards."""
    records: Annotated[Path | None, _RECORDS] = None
    """Folder that `training records` wrote: int8 is calibrated on the split that was trained on,
    its mAP and float16's are measured on val, and so is what drift is compared with."""
    calibrated: bool = False
    """Make scores probabilities: a temperature and a shift, fitted on val, go into the network."""
    at_precision: Annotated[float | None, _NONE] = None
    """Let the service show of each class what scores above the threshold with this precision on
    val. Not given: the service's one threshold for all."""
    at_recall: Annotated[float | None, _NONE] = None
    """The same for this recall."""


def export_run(settings: ExportSettings) -> int:
    """Write the artifact, and print what was measured on val, in mAP from 0 to 1; gives 0.

    Raises:
        TrainingError: the output exists, the run or the records cannot be used, or the exported
            network gives other boxes or scores than TensorFlow; nothing was written.
    """
    if settings.format == "tflite":
        from training.export import tflite  # here: nothing else needs LiteRT
    if settings.output.exists():
        raise TrainingError(f"{settings.output} exists already: choose another --output")
    if settings.keep < 1:
        raise TrainingError(f"--keep must be 1 or more, got {settings.keep}")
    network, preset, labels = run_folder.load_network(settings.run)
    small = settings.precision != "float32"
    photos = precisions.find_photos(settings.run, settings.records) if small else None
    wanted = read_wanted(settings.at_precision, settings.at_recall)
    val = _find_val(settings)
    if val is None and (wanted or settings.calibrated):
        raise TrainingError(
            "--calibrated, --at-precision and --at-recall need a val split, to measure on: name a "
            "folder of records that has one with --records"
        )
    fitted = _fit_calibration(network, preset, val) if val and settings.calibrated else None
    calibration = fitted.calibration if fitted else NONE
    detector = model.Detector(network, preset, settings.keep, calibration)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    # Built beside and renamed, so that an artifact that stands at --output is a whole one.
    with tempfile.TemporaryDirectory(dir=settings.output.parent, prefix=".export-") as folder:
        artifact = Path(folder) / "artifact"
        artifact.mkdir()
        facts = card.make_card(settings.run, preset, labels, detector.keep)
        write_artifact(artifact, detector, preset, labels, facts)
        before = None
        if photos:
            before = precisions.convert_artifact(artifact, settings.precision, photos, calibration)
        found = card.seal_card(artifact, val, wanted, fitted)
        print(_describe_export(settings.precision, photos, before, found, fitted), end="")
        if settings.format == "tflite":
            print(tflite.write_tflite(artifact, detector, settings.precision, photos, val))
        shutil.move(artifact, settings.output)
    tracking.add_card(settings.run, settings.output / "card.json")
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
    facts = card.make_card(run, preset, labels, detector.keep)
    return _to_onnx(_serving_function(detector, preset.input_size), facts)


def _fit_calibration(network: keras.Model, preset: Preset, val: records.Manifest) -> Reliability:
    """What makes the scores of a network in float32 probabilities."""
    detector = model.Detector(network, preset)
    step = measure.detection_step(detector, preset.iou_threshold, preset.voting_iou)
    seen = preset.input_size, preset.resize
    found = Findings.measure(step, val, *seen)
    if found.reliability is None:
        raise TrainingError(
            f"--calibrated needs {FEWEST} right and {FEWEST} false detections in each half of the "
            f"{val.count} photos of val, whose right ones score higher: export without it"
        )
    return found.reliability


def _describe_export(
    precision: precisions.Precision,
    photos: precisions.Photos | None,
    before: Metrics | None,
    found: Findings | None,
    fitted: Reliability | None,
) -> str:
    """Lines of what was measured; of float32 only what was asked for."""
    lines = []
    if photos:
        lines.append(
            precisions.compare_metrics(precision, photos, before, found.metrics if found else None)
        )
    if fitted:
        lines.append(f"scores are calibrated: {fitted}")
    if found and found.wanted:
        lines.append(points_table(found.points, found.wanted))
    if found and found.metrics.trained_on and (fitted or found.wanted):
        lines.append("the network was trained on photos of val: on others its scores mean less")
    return "".join(f"{line}\n" for line in lines)


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
    session = onnx_network.open_session(artifact / "model.onnx")
    check_parity(detector, session, preset.input_size, "model.onnx")


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
