"""The report's folder of made-up detections on rendered smears."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SmallDisk
from training.errors import TrainingError
from training.evaluation import report
from training.evaluation.findings import Findings
from training.evaluation.operating_points import Wanted
from training.evaluation.outcomes import Judged
from training.evaluation.reliability import measure_reliability


def test_the_folder_holds_what_its_list_says(page_path: Path) -> None:
    document = json.loads((page_path.parent / "report.json").read_text())
    files = {str(p.relative_to(page_path.parent)) for p in page_path.parent.rglob("*.*")}
    assert files == {"report.json", *document["files"]}
    assert len([name for name in files if name.startswith("worst/")]) == 2 * 4
    assert {"f1.svg", "training-loss.svg", "training-learning-rate.svg"} < files
    assert sorted(p.name for p in page_path.parent.parent.iterdir()) == ["report"]


def test_figures_for_programs(page_path: Path, found: Findings) -> None:
    document = json.loads((page_path.parent / "report.json").read_text())
    assert document["metrics"] == found.to_dict()
    matrix = np.array(document["confusion"]["rows"])
    objects = sum(len(image.classes) for image in found.truth.values())
    assert matrix[:3].sum() == objects
    assert matrix.trace() == objects - 4
    assert matrix[3].tolist() == [0, 0, 4, 0]
    assert list(document["worst"].values()) == [2] * 4


def test_what_a_score_means_and_what_is_wanted(found: Findings, tmp_path: Path) -> None:
    scores = np.linspace(0.02, 0.98, 500)
    judged = Judged(np.arange(500), np.zeros(500, int), scores, scores**2 > np.arange(500) % 7 / 7)
    told = replace(found, reliability=measure_reliability(judged), wanted=Wanted("recall", 0.7))
    assert told.reliability
    page = report.write_report(tmp_path / "report", told).read_text()
    assert 'src="reliability.svg"' in page
    assert f"off by\n<strong>{told.reliability.error:.3f}</strong>" in page
    assert "For a recall of 0.7" in page
    assert f"<td>{told.points['RBC'].precision}</td>" in page
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert document["metrics"]["reliability"] == told.reliability.to_dict()
    assert "reliability.svg" in document["files"]


def test_an_older_report_is_replaced_and_nothing_else(
    found: Findings, tmp_path: Path, page_path: Path
) -> None:
    folder = Path(shutil.copytree(page_path.parent, tmp_path / "report"))
    assert report.write_report(folder, found).exists()
    assert not (folder / "training-loss.svg").exists()
    (folder / "worst" / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match=r"holds worst/notes.txt, which is no part of a report"):
        report.write_report(folder, found)
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
    found: Findings, page_path: Path, small_disk: SmallDisk, left: int
) -> None:
    """Among the pictures, and before."""
    folder = Path(shutil.copytree(page_path.parent, small_disk.folder / "report"))
    before = small_disk.contents()
    small_disk.fill(left)
    with pytest.raises(OSError, match="No space left on device"):
        report.write_report(folder, found)
    assert small_disk.contents() == before
