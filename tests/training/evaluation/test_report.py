"""The report of made-up detections on rendered smears, and the page in a real Chromium."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from playwright.sync_api import Browser, Page
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import SmallDisk
from training.data import records
from training.errors import TrainingError
from training.evaluation import evaluate, report
from training.evaluation.evaluate import Detected, Metrics, Truth

Split = tuple[records.Manifest, list[Truth], list[Detected], Metrics]


@pytest.fixture(scope="module")
def split(records_folder: Path) -> Split:
    """The val split, found well but for the first box of each image, and one that is not there."""
    manifest = records.load_manifest(records_folder, "val")
    truth = evaluate.read_truth(manifest)
    detected = [_almost(image) for image in truth]
    return manifest, truth, detected, evaluate.score(truth, detected, manifest.labels)


def _almost(image: Truth) -> Detected:
    boxes = np.concatenate([[[0, 0, 4, 4]], image.boxes_xyxy[1:]])
    scores = np.linspace(
        0.95, 0.6, len(boxes)
    )  # the false one is the surest: no threshold hides it
    return Detected(image.image_id, boxes, scores, np.append(2, image.classes[1:]))


@pytest.fixture(scope="module")
def tensorboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Event files of a run that was resumed at step 20, and did steps 30 and 40 again."""
    folder = tmp_path_factory.mktemp("tensorboard")
    for part, steps in enumerate(([10, 20, 30, 40], [30, 40, 50])):
        writer = tf.summary.create_file_writer(str(folder), filename_suffix=f".{part}")
        with writer.as_default():
            for step in steps:
                tf.summary.scalar("train/loss", part + step / 100, step=step)
                tf.summary.scalar("train/learning_rate", 0.1, step=step)
            tf.summary.image("val/photo", np.zeros((1, 2, 2, 3), np.uint8), step=steps[0])
        writer.close()
    return folder


@pytest.fixture(scope="module")
def page_path(split: Split, tensorboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("runs") / "report", *split, tensorboard)


def test_of_a_step_done_twice_the_later_counts(tensorboard: Path) -> None:
    scalars = report.read_scalars(tensorboard)
    assert set(scalars) == {"train/loss", "train/learning_rate"}
    steps, values = scalars["train/loss"]
    assert steps.tolist() == [10, 20, 30, 40, 50]
    assert values.tolist() == pytest.approx([0.1, 0.2, 1.3, 1.4, 1.5])


def test_the_folder_holds_what_its_list_says(page_path: Path) -> None:
    document = json.loads((page_path.parent / "report.json").read_text())
    files = {str(p.relative_to(page_path.parent)) for p in page_path.parent.rglob("*.*")}
    assert files == {"report.json", *document["files"]}
    assert len([name for name in files if name.startswith("worst/")]) == 2 * 4
    assert {"f1.svg", "training-loss.svg", "training-learning-rate.svg"} < files
    assert sorted(p.name for p in page_path.parent.parent.iterdir()) == ["report"]


def test_figures_for_programs(page_path: Path, split: Split) -> None:
    document = json.loads((page_path.parent / "report.json").read_text())
    assert document["metrics"] == split[3].to_dict()
    matrix = np.array(document["confusion"]["rows"])
    objects = sum(len(image.classes) for image in split[1])
    assert matrix[:3].sum() == objects
    assert matrix.trace() == objects - 4
    assert matrix[3].tolist() == [0, 0, 4, 0]
    assert list(document["worst"].values()) == [2] * 4


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(browser: Browser, page_path: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, requested, errors = context.new_page(), [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_path.as_uri())
    page.wait_for_load_state("load")
    images = page.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)")
    assert len(images) == 1 + 3 + 2 + 2 * 4
    assert min(images) > 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    folder = page_path.parent.as_uri()
    assert [url for url in requested if not url.startswith((folder, "data:"))] == []
    _check_links(page, page_path.parent)
    assert errors == []
    context.close()


def _check_links(page: Page, folder: Path) -> None:
    links = page.locator("a").evaluate_all("all => all.map(link => link.getAttribute('href'))")
    assert len(links) == 1 + 3 + 2 + 2 * 4 + 1
    assert [link for link in links if not (folder / link).is_file()] == []


def test_names_cannot_break_the_page(split: Split, tmp_path: Path) -> None:
    manifest, truth, detected, _ = split
    labels = ("<b>", "&amp;", "$title")
    metrics = evaluate.score(truth, detected, labels)
    hostile = records.Manifest(**vars(manifest) | {"labels": labels})
    text = report.write(tmp_path / "report", hostile, truth, detected, metrics).read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "&amp;amp;" in text
    assert "$title" in text
    assert "Training</h2>" not in text


def test_nothing_detected_and_nothing_annotated(split: Split, tmp_path: Path) -> None:
    manifest, truth, *_ = split
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, int))
    detected = [Detected(image.image_id, *nothing) for image in truth]
    empty = [
        Truth(image.image_id, 640, 480, nothing[0], nothing[2], nothing[1] > 0) for image in truth
    ]
    for name, objects in (("some", truth), ("none", empty)):
        metrics = evaluate.score(objects, detected, manifest.labels)
        text = report.write(tmp_path / name, manifest, objects, detected, metrics).read_text()
        assert ("No mistakes" in text) == (name == "none")


def test_an_older_report_is_replaced_and_nothing_else(
    split: Split, tmp_path: Path, page_path: Path
) -> None:
    folder = Path(shutil.copytree(page_path.parent, tmp_path / "report"))
    assert report.write(folder, *split).exists()
    assert not (folder / "training-loss.svg").exists()
    (folder / "worst" / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match=r"holds worst/notes.txt, which is no part of a report"):
        report.write(folder, *split)
    assert (folder / "worst" / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report"]


@pytest.mark.parametrize("text", ["", "3", "{}", '{"generator": "another", "files": ["a.txt"]}'])
def test_a_foreign_folder_is_left_alone(tmp_path: Path, text: str) -> None:
    report.check_replaceable(tmp_path / "new")
    report.check_replaceable(tmp_path)  # empty
    (tmp_path / "report.json").write_text(text)
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(TrainingError, match=r"holds a.txt"):
        report.check_replaceable(tmp_path)
    with pytest.raises(TrainingError, match="is a file"):
        report.check_replaceable(tmp_path / "a.txt")


@pytest.mark.parametrize("left", [0, 30_000])
def test_a_full_disk_leaves_the_older_report(
    split: Split, page_path: Path, small_disk: SmallDisk, left: int
) -> None:
    """Among the pictures, and before."""
    folder = Path(shutil.copytree(page_path.parent, small_disk.folder / "report"))
    before = small_disk.contents()
    small_disk.fill(left)
    with pytest.raises(OSError, match="No space left on device"):
        report.write(folder, *split)
    assert small_disk.contents() == before


def test_summaries_for_tensorboard(split: Split, tmp_path: Path) -> None:
    manifest, truth, detected, metrics = split
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        report.summaries(manifest, truth, detected, metrics, step=7)
    writer.close()
    scalars = report.read_scalars(tmp_path)
    assert scalars["val/mAP@0.5"][0].tolist() == [7]
    assert scalars["val/mAP@0.5"][1] == pytest.approx([metrics.map50])
    assert scalars["val/mAP@[.5:.95]/WBC"][1] == pytest.approx([metrics.per_class["WBC"][1]])
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    plugins = {
        tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]
    }
    pictures = [tag for tag, plugin in plugins.items() if plugin == "images"]
    assert sorted(pictures) == sorted(f"val/{image.image_id}" for image in truth)
    row = tf.make_ndarray(events.Tensors(pictures[0])[0].tensor_proto)
    assert tf.io.decode_jpeg(row[2]).shape == (int(row[1]), int(row[0]), 3)
    curves = [tag for tag, plugin in plugins.items() if plugin == "pr_curves"]
    assert sorted(curves) == [f"val/{name}/pr_curves" for name in ("Platelets", "RBC", "WBC")]
    values = tf.make_ndarray(events.Tensors("val/RBC/pr_curves")[0].tensor_proto)
    assert values.shape == (6, 101)
    assert values[0, 0] + values[3, 0] == sum((image.classes == 0).sum() for image in truth)


def test_summaries_without_a_writer_do_nothing(split: Split) -> None:
    report.summaries(*split, step=1)
