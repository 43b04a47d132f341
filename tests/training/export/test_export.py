import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from serving.artifact import read_artifact
from training import run_folder, train
from training.data import records
from training.errors import TrainingError
from training.evaluation import evaluate
from training.evaluation.reliability import Reliability
from training.export import export, parity, precisions, reference
from training.network import model, onnx_network
from training.network.calibration import Calibration
from training.network.lite_network import LiteSession
from training.network.presets import PRESETS, Preset, Widths
from training.settings import TrainSettings

LABELS = ["RBC", "WBC", "Platelets"]


COMPACT = model.compact
pytestmark = pytest.mark.usefixtures("tiny_network")
EXPORTED = {"ssd_compact": "as_converted", "ssd_lite0": "lite0"}  # by fixtures of other tests


@pytest.fixture(scope="module")
def trained(
    tiny_network: None, records_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two steps, evaluated once."""
    output = tmp_path_factory.mktemp("run") / "cells"
    settings = TrainSettings(
        records_folder, output, preset="ssd_compact", epochs=1, batch_size=4, evaluate_every=1
    )
    assert train.train_detector(settings) == 0
    return output


@pytest.fixture(scope="module")
def artifact(trained: Path) -> Path:
    folder = trained.parent / "artifact"
    assert export.export_run(export.ExportSettings(trained, folder, 100, format="tflite")) == 0
    return folder


def _reference(artifact: Path, folder: Path) -> dict[str, Any]:
    """What drift is judged by, measured anew."""
    network = onnx_network.load_onnx(artifact / "model.onnx")
    return reference.measure_reference(network, records.load_manifest(folder, "val"))


def test_artifact_is_complete(artifact: Path, records_folder: Path) -> None:
    names = {path.name for path in artifact.iterdir()}
    assert names == {"saved_model", "model.onnx", "model.tflite", "labels.txt", "card.json"}
    assert (artifact / "labels.txt").read_text().split() == LABELS
    card = json.loads((artifact / "card.json").read_text())
    assert card["preset"] == "ssd_compact"
    metrics = card["metrics"]
    assert (metrics["split"], metrics["images"], metrics["trained_on"]) == ("val", 4, 0)
    assert card["default_boxes"]["count"] == 8732
    assert card["sha256"] == hashlib.sha256((artifact / "model.onnx").read_bytes()).hexdigest()
    assert card["reference"] == _reference(artifact, records_folder)
    assert str(Path.cwd()) not in (artifact / "card.json").read_text()


def check_tflite(artifact: Path, precision: precisions.Precision) -> None:
    """It is the network of model.onnx, and the card tells of it."""
    card = json.loads((artifact / "card.json").read_text())
    told, content = card["tflite"], (artifact / "model.tflite").read_bytes()
    assert told["precision"] == card["precision"] == precision
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    assert told["tensors"] == LiteSession(content).tensors()
    assert told["metrics"]["images"] == 4
    assert ("calibration" in told) == (precision == "int8")
    images = np.random.default_rng(1).integers(0, 256, (2, 300, 300, 3), np.uint8)
    network = onnx_network.load_onnx(artifact / "model.onnx")
    other = dataclasses.replace(network, session=LiteSession(artifact / "model.tflite"))
    allowed = {"float32": 1e-4, "float16": 0.01, "int8": 0.1}[precision]
    assert onnx_network.difference(network.rows(images), other.rows(images), allowed) < allowed


def test_tflite_stands_beside_the_others(artifact: Path) -> None:
    """float32 and Keras are compared by the export itself, float16 with float32."""
    check_tflite(artifact, "float32")
    assert read_artifact(artifact).network == artifact / "model.onnx"


def test_onnx_has_the_tensors_of_the_seam(artifact: Path) -> None:
    session = onnxruntime.InferenceSession(artifact / "model.onnx")
    tensors = {x.name: (x.type, x.shape) for x in (*session.get_inputs(), *session.get_outputs())}
    assert tensors == {
        "images": ("tensor(uint8)", ["batch", 300, 300, 3]),
        "boxes": ("tensor(float)", ["batch", 100, 4]),
        "scores": ("tensor(float)", ["batch", 100, 3]),
    }


def test_a_lone_onnx_file_explains_itself(artifact: Path) -> None:
    graph = onnx.load(artifact / "model.onnx")
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(metadata["labels"]) == LABELS
    assert "reference" not in metadata
    assert metadata["preset"] == "ssd_compact"
    assert metadata["iou_threshold"] == "0.45"
    assert metadata["voting_iou"] == "0.0"


@pytest.mark.parametrize("batch", [1, 3])
def test_saved_model_and_onnx_agree_with_keras(trained: Path, artifact: Path, batch: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (batch, 300, 300, 3), np.uint8)
    network, preset, _ = run_folder.load_network(trained)
    keras_rows = _rows(model.Detector(network, preset, 100)(tf.constant(images)))
    served = tf.saved_model.load(artifact / "saved_model").signatures["serving_default"]
    session = onnxruntime.InferenceSession(artifact / "model.onnx")
    outputs = session.run(["boxes", "scores"], {"images": images})
    others = [
        _rows(served(images=tf.constant(images))),
        _rows(dict(zip(("boxes", "scores"), outputs, strict=True))),
    ]
    for rows in others:
        for one, other in zip(keras_rows, rows, strict=True):
            assert onnx_network.row_difference(one, other, slack=1e-4) < 1e-4
            assert onnx_network.row_difference(other, one, slack=1e-4) < 1e-4


def _rows(outputs: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([outputs["boxes"], outputs["scores"]], axis=-1)


def test_a_graph_that_gives_nan_agrees_with_nothing(artifact: Path, tmp_path: Path) -> None:
    graph = onnx.load(artifact / "model.onnx")
    for initializer in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(initializer)
        if values.dtype == np.float32 and values.size > 10_000:
            spoilt = np.full_like(values, np.nan)
            initializer.CopyFrom(onnx.numpy_helper.from_array(spoilt, initializer.name))
    onnx.save(graph, tmp_path / "model.onnx")
    detector = model.Detector(
        model.build_network(PRESETS["ssd_compact"], 3), PRESETS["ssd_compact"], 100
    )
    session = onnx_network.open_session(tmp_path / "model.onnx")
    assert parity.largest_difference(detector, session, 300) == np.inf


def test_metrics_of_other_weights_are_not_the_cards(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    assert run_folder.read_metrics(run) is not None
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"step": 1}))
    assert run_folder.read_metrics(run) is None


def test_an_artifact_is_not_overwritten(trained: Path, artifact: Path) -> None:
    with pytest.raises(TrainingError, match="exists already"):
        export.export_run(export.ExportSettings(trained, artifact))


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_another_precision(
    trained: Path,
    records_folder: Path,
    tmp_path: Path,
    precision: precisions.Precision,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "artifact"
    settings = export.ExportSettings(trained, folder, 100, precision, format="tflite")
    assert export.export_run(settings) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.onnx", "model.tflite", "labels.txt", "card.json"}
    card = json.loads((folder / "card.json").read_text())
    printed = capsys.readouterr().out
    for name, metrics in (("float32", card["metrics_float32"]), (precision, card["metrics"])):
        both = rf"{metrics['mAP@0.5']:.3f} +{metrics['mAP@[.5:.95]']:.3f}"
        assert re.search(rf"\n{name} +{both}", printed)
    assert f"ONNX in {precision}" in printed
    assert f"model.tflite: {precision} (0." in printed
    check_tflite(folder, precision)
    metadata = {e.key: e.value for e in onnx.load(folder / "model.onnx").metadata_props}
    assert metadata["precision"] == card["precision"] == precision
    assert json.loads(metadata["metrics"]) == card["metrics"]
    assert card["sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert ("calibration" in card) == (precision == "int8")
    assert card["reference"] == _reference(folder, records_folder)
    measured = evaluate.EvaluateSettings(records_folder, onnx=folder / "model.onnx", json=True)
    assert evaluate.evaluate_detector(measured) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == card["metrics"] | {"advice": found["advice"]}
    assert found["sizes"]


def test_calibrated_with_a_threshold_for_each_class(
    trained: Path,
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Keras and ONNX Runtime are compared by the export itself. Two steps fit nothing."""
    folder = tmp_path / "artifact"
    settings = export.ExportSettings(trained, folder, keep=100, calibrated=True, at_recall=0.0)
    with pytest.raises(TrainingError, match=r"--calibrated needs 10 right and 10 false detections"):
        export.export_run(settings)
    bins = np.array([[4, 0.7, 0.5]])
    fitted = Reliability(bins, 0.2, Calibration(0.4, 0.8), bins, 0.1)
    monkeypatch.setattr(export, "_fit_calibration", lambda *_: fitted)
    assert export.export_run(settings) == 0
    told = capsys.readouterr().out
    assert (
        "scores are calibrated: expected calibration error 0.200 (scores from 0.3 on), 0.1" in told
    )
    assert "for a recall of 0  score threshold" in told
    assert "trained on photos of val" not in told
    images = np.random.default_rng(1).integers(0, 256, (2, 300, 300, 3), np.uint8)
    plain, found = (onnx_network.load_onnx(f / "model.onnx")(images) for f in (artifact, folder))
    calibrated = fitted.calibration.calibrate(plain["scores"])
    np.testing.assert_allclose(found["scores"], calibrated, atol=1e-5)
    np.testing.assert_allclose(found["boxes"], plain["boxes"], atol=1e-6)
    card = json.loads((folder / "card.json").read_text())
    assert card["reliability"] == fitted.to_dict() | {"is_applied": True}
    assert card["operating_points"]["wanted"] == {"recall": 0.0}
    points = card["operating_points"]["classes"]
    wanted = [points[k]["score_threshold"] if points[k]["is_reached"] else 0.5 for k in LABELS]
    assert card["score_thresholds"] == card["reference"]["score_thresholds"] == wanted
    assert read_artifact(folder).score_thresholds == tuple(wanted)


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_another_precision_without_a_val_split(
    trained: Path,
    records_folder: Path,
    tmp_path: Path,
    precision: precisions.Precision,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The photos trained on are enough to make it; only its mAP is not known."""
    copy = Path(shutil.copytree(records_folder, tmp_path / "records"))
    (copy / "val.json").unlink()
    folder = tmp_path / "artifact"
    settings = export.ExportSettings(trained, folder, precision=precision, records=copy)
    assert export.export_run(settings) == 0
    printed = capsys.readouterr().out
    assert f"records holds no val split: mAP in {precision} is not known" in printed
    assert "no reference on the card, so drift cannot be judged: " in printed
    card = json.loads((folder / "card.json").read_text())
    assert card["metrics"] is None
    assert "metrics_float32" not in card
    assert "reference" not in card
    assert onnx_network.load_onnx(folder / "model.onnx").labels == tuple(LABELS)


def test_records_that_are_gone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "artifact"
    settings = export.ExportSettings(trained, folder, records=tmp_path / "none")
    assert export.export_run(settings) == 0
    assert "drift cannot be judged: " in capsys.readouterr().out
    assert "reference" not in json.loads((folder / "card.json").read_text())


def test_another_precision_without_photos(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    with pytest.raises(TrainingError, match=r"--at-recall need a val split.*with --records"):
        export.export_run(
            export.ExportSettings(trained, folder, records=tmp_path / "none", at_recall=0.9)
        )
    settings = export.ExportSettings(trained, folder, precision="int8", records=tmp_path / "none")
    with pytest.raises(TrainingError, match=r"none are not there.*with --records"):
        export.export_run(settings)
    assert not folder.exists()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_exports(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """VGG-16 with a quarter of its channels, which is the same graph."""
    monkeypatch.setattr(model, "compact", COMPACT)
    folder = tmp_path
    if name in EXPORTED:
        folder = request.getfixturevalue(EXPORTED[name]).parent
    else:
        _export(PRESETS[name], folder)
    assert (folder / "model.onnx").stat().st_size > 1e6


def _export(preset: Preset, folder: Path) -> None:
    if preset.name == "ssd300_vgg16":
        preset = dataclasses.replace(preset, widths=_quarter(preset))
    detector = model.Detector(model.build_network(preset, 2), preset, 50)
    export.write_artifact(folder, detector, preset, ("a", "b"), {"preset": preset.name})


def _quarter(preset: Preset) -> Widths:
    convolutions = [
        layer
        for layer in model.build_network(preset, 2).layers
        if isinstance(layer, keras.layers.Conv2D) and layer.activation is keras.activations.relu
    ]
    return tuple((layer.name, layer.filters // 4) for layer in convolutions)


def test_evaluation_of_a_run(
    trained: Path, records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = evaluate.EvaluateSettings(
        records_folder, run=trained, report=tmp_path / "report", json=True
    )
    assert evaluate.evaluate_detector(settings) == 0
    printed = capsys.readouterr()
    metrics = json.loads(printed.out)
    stored = json.loads((trained / "metrics.json").read_text())
    assert metrics["mAP@0.5"] == pytest.approx(stored["mAP@0.5"], abs=1e-6)
    assert re.search(r"4 images in \d+\.\d s\nreport: .*/report/index.html\n$", printed.err)
    assert (tmp_path / "report" / "training-loss.svg").is_file()
