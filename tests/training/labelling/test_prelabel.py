"""The command, as it is typed: boxes for a folder of photos, and what it refuses."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.training.labelling.conftest import NETWORK
from training.__main__ import main


def test_a_folder_of_photos_gets_boxes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drafts = tmp_path / "drafts"
    assert main(["prelabel", str(NETWORK.parent), str(photos), "--output", str(drafts)]) == 0
    said = capsys.readouterr()
    assert f"{drafts}: 3 photos in voc; boxes: RBC " in said.out
    assert f"left out: {photos / 'cut.jpg'}: does not decode" in said.err
    assert f"left out: {photos / 'phone.heic'}: not read; save it as" in said.err
    assert main(["check", str(drafts)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_a_lower_threshold_leaves_more_boxes(tmp_path: Path) -> None:
    counts = []
    for threshold in ("0.2", "0.9"):
        output = tmp_path / threshold
        options = ["--format", "yolo", "--score-threshold", threshold]
        photos = str(PROJECT / "samples")
        assert main(["prelabel", str(NETWORK), photos, "--output", str(output), *options]) == 0
        counts.append(sum(len(p.read_text().splitlines()) for p in output.glob("labels/smear*")))
    assert counts[0] > counts[1] > 0


def test_what_cannot_be_is_a_sentence(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(model: Path, photos: Path, *options: str) -> str:
        output = tmp_path / "new"
        command = ["prelabel", str(model), str(photos), "--output", str(output), *options]
        assert main(command) == 1
        assert not output.exists()
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        return line

    assert f"{photos} is no model: expected the folder of an artifact" in refused(photos, photos)
    assert f"{tmp_path / 'none'} is no model" in refused(tmp_path / "none", photos)
    wrong = refused(photos / "cut.jpg", photos)
    assert f"{photos / 'cut.jpg'} is no model.onnx of `training export`" in wrong
    (tmp_path / "empty").mkdir()
    assert "empty: no photos in there; read are .jpg" in refused(NETWORK, tmp_path / "empty")
    assert "none: no such folder" in refused(NETWORK, tmp_path / "none")
    shutil.copy(photos / "cut.jpg", tmp_path / "empty")
    assert "none of the 1 photos decodes, first" in refused(NETWORK, tmp_path / "empty")
    too_high = refused(NETWORK, photos, "--score-threshold", "50")
    assert "--score-threshold must be 0 to 1, got 50.0" in too_high
    (tmp_path / "there").mkdir()
    there = str(tmp_path / "there")
    assert main(["prelabel", str(NETWORK), str(photos), "--output", there]) == 1
    assert "there exists already: choose another --output" in capsys.readouterr().err
