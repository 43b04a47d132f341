"""Two runs measured on the same photos: trained for real, and with made-up detections."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.training.test_runs import write_run
from training import __main__ as command_line
from training import checkpoints, run_folder
from training.comparison import changes
from training.comparison.measured import Measured
from training.data import records
from training.evaluation import measure, score
from training.evaluation.findings import Findings
from training.evaluation.score import Detected, Truth
from training.evaluation.spread import measure_difference
from training.network import model
from training.network.presets import SSD_COMPACT


@pytest.fixture(scope="module")
def runs(
    tiny_network: None, records_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two networks with random weights, as run folders hold them."""
    folder = tmp_path_factory.mktemp("runs")
    labels = records.load_manifest(records_folder, "val").labels
    for seed, name in enumerate("ab"):
        run = write_run(folder / name)
        description = json.loads((run / "run.json").read_text()) | {"labels": labels}
        description["settings"] |= {"seed": seed, "records": str(records_folder)}
        run_folder.write_json(run / "run.json", description)
        keras.utils.set_random_seed(seed)
        network = model.build_network(SSD_COMPACT, len(labels))
        checkpoint = tf.train.Checkpoint(average=network)
        checkpoints.save_checkpoint(checkpoint, run / "checkpoints", 1)
    return folder / "a", folder / "b"


def test_both_networks_are_measured_anew(
    runs: tuple[Path, Path],
    records_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "SHOWN", 0)  # two hundred boxes each take seconds
    page = tmp_path / "page"
    assert command_line.main(["compare", *map(str, runs), "--report", str(page)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == ["seed: 0 -> 1", "", "4 photos of val, measured anew with both"]
    assert "4 photos are too few to tell a difference from chance." in told
    assert told[-1] == f"page: {page / 'index.html'}"
    document = json.loads((page / "report.json").read_text())
    val = records.load_manifest(records_folder, "val")
    assert [x["fingerprint"] for x in document["metrics"]] == [val.fingerprint] * 2
    mistakes = [f"  {k}: {was} -> {now}" for k, (was, now) in document["mistakes"].items()]
    assert mistakes
    assert told[-1 - len(mistakes) : -1] == mistakes


def test_a_page_does_not_replace_what_is_none(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert command_line.main(["compare", *map(str, runs), "--report", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "holds notes.txt, which is no part of a report" in told.err
    assert not told.out


@pytest.fixture(scope="module")
def measured(records_folder: Path) -> Measured:
    """The second run misses no object; the first missed one of each photo, two of the second."""
    manifest = records.load_manifest(records_folder, "val")
    truth = measure.read_truth(manifest)

    def find(missed: Callable[[int], int]) -> Findings:
        detected = [_all_but(image, missed(k)) for k, image in enumerate(truth)]
        metrics = score.score_detections(truth, detected, manifest.labels)
        return Findings.of(manifest, truth, detected, replace(metrics, trained_on=0, split="val"))

    return Measured(find(lambda k: 1 + (k == 1)), find(lambda k: 0), None)


def _all_but(image: Truth, missed: int) -> Detected:
    boxes = image.boxes_xyxy[missed:]
    return Detected(image.image_id, boxes, np.full(len(boxes), 0.9), image.classes[missed:])


def test_the_most_changed_photo_comes_first(measured: Measured) -> None:
    names = list(measured.before.truth)
    assert [x.image_id for x in measured.changes] == [names[1], names[0], *names[2:]]
    assert [x.more for x in measured.changes] == [-2, -1, -1, -1]
    assert "fewer in 4 photos, more in 0, as many in 0" in measured.changes_text
    back = Measured(measured.after, measured.before, None)
    assert [x.more for x in back.changes] == [2, 1, 1, 1]
    assert "fewer in 0 photos, more in 4" in back.changes_text
    assert not Measured(measured.after, measured.after, None).changes


def test_the_page_shows_each_photo_as_both_see_it(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SHOWN", 3)
    runs = Path("runs/<a>"), Path("runs/b")
    page = changes.write_changes(tmp_path / "page", runs, measured, ["seed: 0 -> 1"])
    text = page.read_text()
    assert "runs/&lt;a&gt; and runs/b" in text
    assert "The 3 photos that changed most" in text
    assert "mistakes 2 → 0, missed\n2 → 0, false\n0 → 0" in text
    assert text.index("--page:") < text.index("</style>")
    pictures = sorted(path.name for path in (tmp_path / "page" / "photos").iterdir())
    assert len(pictures) == 6
    before, after = (
        np.array(Image.open(tmp_path / "page" / "photos" / f"01-{name}.jpg"), int)
        for name in ("before", "after")
    )
    assert before.shape == after.shape
    assert (np.abs(before - after).max(axis=-1) > 100).sum() > 50  # dashed lines are there
    changes.write_changes(tmp_path / "page", runs, measured, [])  # an older one is replaced
    assert "seed" not in page.read_text()


def test_what_is_more_than_chance_has_a_star(measured: Measured) -> None:
    truth = list(measured.before.truth.values())
    one, other = (list(x.detected.values()) for x in (measured.before, measured.after))
    many = [replace(x, image_id=f"{x.image_id}-{n}") for n in range(5) for x in truth]
    were, are = (
        [replace(x, image_id=f"{x.image_id}-{n}") for n in range(5) for x in found]
        for found in (one, other)
    )
    difference = measure_difference(many, were, are, measured.before.labels)
    assert difference
    rows = Measured(measured.before, measured.after, difference).rows
    assert rows[0][1].endswith(") *")
    assert [row[0] for row in rows] == ["all classes", *measured.before.metrics.per_class]
    assert Measured(measured.before, measured.after, None).rows[0][1].endswith(")")


def test_photos_trained_on_have_no_map(measured: Measured) -> None:
    seen = replace(measured.after, metrics=replace(measured.after.metrics, trained_on=2))
    told = Measured(measured.before, seen, None)
    assert told.names[0] == "mAP@0.5 of photos trained on"
    assert told.notes == [
        "Some were trained on, so that the difference tells nothing of other photos."
    ]
