"""No mAP of photos that were trained on is taken for one of others, wherever it is written."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from training import run_folder, train
from training.data import records, records_writer
from training.data.records_writer import RecordsSettings
from training.data.trained_on import NOTHING, TrainedOn, of_facts
from training.evaluation import evaluate
from training.export import export
from training.network.presets import SSD_COMPACT
from training.render import smears
from training.settings import TrainSettings

LABELS = ("RBC", "WBC", "Platelets")
PLAIN = "mAP@0.5"
TOLD = "mAP@0.5 of photos trained on"
pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three smears in train, two in val, and trainval of both."""
    folder = tmp_path_factory.mktemp("photos") / "voc"
    assert (
        smears.render_smears(smears.RenderSettings(folder, count=5, val=0.4, width=160, height=120))
        == 0
    )
    return folder


def _records(voc: Path, output: Path) -> Path:
    settings = RecordsSettings(
        (voc,), output=output, splits=("train", "val", "trainval"), labels=LABELS
    )
    assert records_writer.write_records(settings) == 0
    return output


@pytest.fixture(scope="module")
def folder(voc: Path) -> Path:
    return _records(voc, voc.parent / "records")


def _train(folder: Path, output: Path, **changes: Any) -> Path:
    settings = TrainSettings(
        folder, output, preset="ssd_compact", epochs=1, batch_size=3, evaluate_every=1
    )
    assert train.train_detector(dataclasses.replace(settings, **changes)) == 0
    return output


@pytest.fixture(scope="module")
def held_out(tiny_network: None, folder: Path) -> Path:
    """A run that has not seen val."""
    return _train(folder, folder.parent / "held-out")


@pytest.fixture(scope="module")
def all_seen(tiny_network: None, folder: Path) -> Path:
    """A run that has seen all of val; printed.txt is what it said."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run = _train(folder, folder.parent / "all-seen", train_split="trainval")
    (run / "printed.txt").write_text(printed.getvalue())
    return run


def _evaluated(capsys: pytest.CaptureFixture[str], folder: Path, **source: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert evaluate.evaluate_detector(evaluate.EvaluateSettings(folder, **source, json=True)) == 0
    return json.loads(capsys.readouterr().out)


def test_nothing_trained_on() -> None:
    assert NOTHING.count([]) == NOTHING.count(["a"]) == 0
    assert TrainedOn().count(["a"]) is None
    assert TrainedOn(frozenset("a")).count(["a", "b"]) == 1


def test_facts_come_back() -> None:
    photos = TrainedOn(frozenset(("a", "b")), complete=True)
    assert of_facts({"trained_on": photos.to_dict()}) == photos
    assert of_facts({"trained_on": json.dumps(photos.to_dict())}) == photos
    assert of_facts({}) == TrainedOn()


def test_a_run_on_train_has_a_plain_figure(held_out: Path) -> None:
    metrics = json.loads((held_out / "metrics.json").read_text())
    assert PLAIN in metrics
    assert (metrics["split"], metrics["images"], metrics["trained_on"]) == ("val", 2, 0)
    val = records.load_manifest(held_out.parent / "records", "val")
    assert metrics["fingerprint"] == val.fingerprint


def test_a_run_on_trainval_says_that_it_was_trained_on_val(all_seen: Path) -> None:
    """In what it prints, in metrics.json, in the report and in what TensorBoard shows."""
    run = all_seen
    printed = (run / "printed.txt").read_text()
    assert "2 images, 2 of them trained on: this tells nothing of other photos" in printed
    assert PLAIN not in printed.replace(TOLD, "")
    text = (run / "metrics.json").read_text()
    assert PLAIN not in text.replace(TOLD, "")
    assert json.loads(text)["trained_on"] == 2
    page = (run / "report" / "index.html").read_text()
    assert "2 of them trained on" in page
    assert PLAIN not in page.replace(TOLD, "")
    events = b"".join(path.read_bytes() for path in (run / "tensorboard").iterdir())
    assert f"val/{TOLD}".encode() in events
    assert f"val/{PLAIN}".encode() not in events.replace(TOLD.encode(), b"")


def test_evaluate_says_so(
    voc: Path, folder: Path, all_seen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the records trained from, on others of the same photos, and after those are gone."""
    assert _evaluated(capsys, folder, run=all_seen)["trained_on"] == 2
    again = _records(voc, tmp_path / "again")
    found = _evaluated(capsys, again, run=all_seen)
    assert found["trained_on"] == 2
    assert PLAIN not in found
    assert TOLD in found
    moved = Path(shutil.copytree(all_seen, tmp_path / "moved"))
    description = run_folder.read_description(moved)
    description["settings"]["records"] = "gone"
    run_folder.write_json(moved / "run.json", description)
    assert _evaluated(capsys, again, run=moved)["trained_on"] == 2


def test_evaluate_on_the_split_trained_on(
    folder: Path, held_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _evaluated(capsys, folder, run=held_out)["trained_on"] == 0
    assert _evaluated(capsys, folder, run=held_out, split="train")["trained_on"] == 3
    assert _evaluated(capsys, folder, run=held_out, split="trainval")["trained_on"] == 3


def test_a_photo_is_known_by_another_name(
    voc: Path, all_seen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of other ids, of which one photo is new."""
    other = Path(shutil.copytree(voc, tmp_path / "voc"))
    for place in ("JPEGImages/smear-{}.jpg", "Annotations/smear-{}.xml"):
        for number in (4, 5):
            (other / place.format(number)).rename(other / place.format(f"new-{number}"))
    (other / "ImageSets/Main/val.txt").write_text("smear-new-4\nsmear-new-5\n")
    image = other / "JPEGImages/smear-new-5.jpg"
    image.write_bytes(image.read_bytes() + b"\0")
    settings = RecordsSettings((other,), output=tmp_path / "records", labels=LABELS)
    assert records_writer.write_records(settings) == 0
    assert _evaluated(capsys, tmp_path / "records", run=all_seen)["trained_on"] == 1


def test_a_run_that_starts_from_another_has_seen_its_photos(
    folder: Path, all_seen: Path, tmp_path: Path
) -> None:
    settings = TrainSettings(
        folder, tmp_path / "run", preset="ssd_compact", pretrained=str(all_seen)
    )
    train.open_run(settings, SSD_COMPACT, records.load_manifest(folder, "train"))
    val = records.photos(records.load_manifest(folder, "val"))
    assert run_folder.trained_on(tmp_path / "run").count(val) == 2


def test_the_card_says_what_it_was_measured_on(
    folder: Path, all_seen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.export_run(export.ExportSettings(all_seen, tmp_path / "artifact")) == 0
    metrics = json.loads((tmp_path / "artifact" / "card.json").read_text())["metrics"]
    assert (metrics["split"], metrics["images"], metrics["trained_on"]) == ("val", 2, 2)
    assert TOLD in metrics
    assert PLAIN not in metrics
    found = _evaluated(capsys, folder, onnx=tmp_path / "artifact" / "model.onnx")
    assert found["trained_on"] == 2


def test_a_run_of_before_there_was_this(
    folder: Path, all_seen: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its records tell as long as they are there; then nobody knows. Its plain figure of val goes
    on no card, unless it was trained on train."""
    for run, kept in ((all_seen, False), (held_out, True)):
        old = Path(shutil.copytree(run, tmp_path / run.name))
        description = run_folder.read_description(old)
        del description["trained_on"]
        run_folder.write_json(old / "run.json", description)
        assert _evaluated(capsys, folder, run=old, split="train")["trained_on"] == 3
        metrics = json.loads((old / "metrics.json").read_text())
        before = {"step": metrics["step"], PLAIN: 0.9, "images": 2}
        run_folder.write_json(old / "metrics.json", before)
        assert (run_folder.read_metrics(old) is not None) == kept
        description["settings"]["records"] = "gone"
        run_folder.write_json(old / "run.json", description)
        assert _evaluated(capsys, folder, run=old)["trained_on"] is None


def test_records_of_before_there_was_this(
    folder: Path, all_seen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest without photos: the stored files tell."""
    old = Path(shutil.copytree(folder, tmp_path / "records"))
    fields = json.loads((old / "val.json").read_text())
    assert len(fields.pop("photos")) == 2
    (old / "val.json").write_text(json.dumps(fields))
    assert _evaluated(capsys, old, run=all_seen)["trained_on"] == 2
