"""A split becomes a COCO file that says what the folder said, to this project and to serving."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import Box, Detection, Result
from serving.release.evaluation import read_evaluation, score_detections
from training.__main__ import main
from training.data import coco_export
from training.data.coco_export import CocoSettings
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.problems import DataError
from training.evaluation import score
from training.render import smears


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "voc"
    assert (
        smears.render_smears(smears.RenderSettings(path, count=4, val=0.5, width=160, height=120))
        == 0
    )
    return path


def test_file_says_what_the_folder_said(folder: Path, tmp_path: Path) -> None:
    """Also to `training check`, where the images lie below the file's folder."""
    assert coco_export.write_coco(CocoSettings((folder,), tmp_path / "val.json")) == 0
    (voc,) = (Folders(FolderSettings((folder,))).read("val"),)
    read = Folders(FolderSettings((tmp_path,))).read("val", voc.labels)
    assert not read.problems
    assert len(read.annotations) == 2
    for ours, theirs in zip(read.annotations, voc.annotations, strict=True):
        assert ours.image_path.samefile(theirs.image_path)
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-4)
        assert ours.labels == theirs.labels


def test_ids_and_flags(folder: Path, tmp_path: Path) -> None:
    path = folder / "Annotations/smear-4.xml"
    path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<", 1))
    labels = ("WBC", "Platelets", "RBC")
    assert (
        coco_export.write_coco(CocoSettings((folder,), tmp_path / "out/val.json", labels=labels))
        == 0
    )
    content = json.loads((tmp_path / "out/val.json").read_text())
    assert [(row["id"], row["name"]) for row in content["categories"]] == [*enumerate(labels, 1)]
    assert [row["id"] for row in content["images"]] == [1, 2]
    assert content["images"][0]["file_name"].startswith("../voc/JPEGImages/smear-")
    assert [row["id"] for row in content["annotations"]] == [
        *range(1, len(content["annotations"]) + 1)
    ]
    assert sum(row["iscrowd"] for row in content["annotations"]) == 1


def test_file_names_hold_behind_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep/er")
    assert coco_export.write_coco(CocoSettings((folder,), tmp_path / "link/val.json")) == 0
    assert len(read_evaluation(tmp_path / "link/val.json").photos) == 2


def test_nothing_is_overwritten(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "val.json"
    output.write_text("mine")
    assert main(["coco", str(folder), "--output", str(output)]) == 1
    assert "exists already: choose another --output" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val.json", "voc"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "val.txt"}, "expected a file that ends in .json"),
        ({"split": "test"}, "no split test; splits here: train, val, trainval"),
        ({"rename": ("cross=red",)}, "no box has the class 'cross'"),
        ({"rename": ("RBC=", "WBC=", "Platelets=")}, "no class in the split val"),
    ],
)
def test_refusals(settings: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / settings.pop("output", "val.json")
    with pytest.raises(DataError, match=message):
        coco_export.write_coco(CocoSettings((folder,), output, **settings))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["voc"]


def test_no_folder_is_wrong_usage(tmp_path: Path) -> None:
    assert main(["coco", "--output", str(tmp_path / "val.json")]) == 2


def test_report_tells_what_was_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "JPEGImages/smear-4.jpg").write_bytes(b"no image")
    assert coco_export.write_coco(CocoSettings((folder,), tmp_path / "val.json")) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'val.json'}: val, 1 images; RBC " in out
    assert "1 x bad image (image left out)" in out


def test_served_and_trained_are_measured_alike(folder: Path, tmp_path: Path) -> None:
    """mAP by `serving.release.evaluation` is mAP by `training evaluate`, on noisy detections."""
    coco_export.write_coco(CocoSettings((folder,), tmp_path / "val.json"))
    dataset, evaluation = (
        Folders(FolderSettings((folder,))).read("val"),
        read_evaluation(tmp_path / "val.json"),
    )
    rng = np.random.default_rng(0)
    truth, detected, served = [], [], {}
    for number, item in zip(evaluation.photos, dataset.annotations, strict=True):
        classes = np.array([dataset.labels.index(label) for label in item.labels])
        boxes = item.boxes_xyxy + rng.normal(0, 2, item.boxes_xyxy.shape)
        boxes = np.sort(boxes.reshape(-1, 2, 2), axis=1).reshape(-1, 4).astype(np.float32)
        scores = np.sort(rng.uniform(0, 1, len(boxes)))[::-1].astype(np.float32)
        found = np.where(rng.uniform(size=len(boxes)) < 0.2, 0, classes)
        size = (item.image_id, item.width, item.height)
        truth.append(score.Truth(*size, item.boxes_xyxy, classes, item.difficult))
        detected.append(score.Detected(item.image_id, boxes, scores, found))
        detections = [
            Detection(dataset.labels[kind], int(kind), float(value), Box(*map(float, box)))
            for kind, value, box in zip(found, scores, boxes, strict=True)
        ]
        served[number] = Result(tuple(detections), item.width, item.height)
    expected = score.score_detections(truth, detected, dataset.labels)
    metrics = score_detections(evaluation, served)
    assert 0.2 < metrics.map < 0.9
    assert metrics.map50 == pytest.approx(expected.map50)
    assert metrics.map == pytest.approx(expected.map)
    assert metrics.per_class == {k: pytest.approx(v) for k, v in expected.per_class.items()}
