"""The one command: killed in each of its steps it comes to the very same end; what it refuses."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.training.networks import run
from training.data import records
from training.errors import TrainingError
from training.pipeline import run as pipeline
from training.pipeline.settings import RunSettings
from training.render import smears

OPTIONS = ["--preset", "ssd_compact", "--epochs", "7", "--seed", "3"]
# Where it is killed, by what is not yet whole then.
KILLED = {
    "records/train.json": {"KILL_IN": "training.data.records_writer._publish"},
    "boxes.json": {"KILL_IN": "training.fit.write_fitted"},
    "run/report": {"KILL_AT": "2"},
    "run/report/index.html": {"KILL_IN": "training.evaluation.report.write_report"},
    "float32": {"KILL_IN": "training.export.card.seal_card"},
    "int8": {"KILL_IN": "training.export.quantize.to_int8"},
}
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotated photos without a val split."""
    folder = tmp_path_factory.mktemp("photos") / "voc"
    assert smears.render_smears(smears.RenderSettings(folder, count=6, val=0)) == 0
    return folder


@pytest.fixture
def run_in(photos: Path, tmp_path: Path, tiny_training: list[str]) -> Run:
    """Runs the command with an output of this name; gives its exit code, and what it printed."""
    command = [*tiny_training, "run", str(photos), "--output", "mine", *OPTIONS]

    def run_once(**environment: str) -> tuple[int, str]:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run_once


@pytest.mark.slow
def test_killed_in_each_step_it_comes_to_the_very_same_end(run_in: Run, tmp_path: Path) -> None:
    output, whole, told = tmp_path / "mine", tmp_path / "whole", ""
    code, text = run_in()
    assert code == 0, text
    output.rename(whole)
    for name, where in KILLED.items():
        code, text = run_in(**where)
        assert code == -signal.SIGKILL, text
        assert not (output / name).exists()
        assert not (output / "int8").exists()
        told += text
    code, text = run_in()
    assert code == 0, text
    assert text.count("already there") == len(KILLED) - 1
    for once in ("nothing is wrong", "train: 5 images in", "SavedModel and ONNX", "epoch 9\n"):
        assert (told + text).count(once) == 1, once
    assert_same(whole, output)
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]
    code, text = run_in()
    assert (code, text.count("already there")) == (0, len(KILLED))


def assert_same(one: Path, other: Path) -> None:
    told = ("boxes.json", "run/metrics.json", "run/best/metrics.json", "records/train.json")
    for name in (*told, "records/val.json"):
        assert (one / name).read_text() == (other / name).read_text()
    images = np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), np.uint8)
    for name in ("float32", "int8"):
        a, b = (run(onnx.load(x / name / "model.onnx"), images) for x in (one, other))
        np.testing.assert_array_equal(a, b)
    assert records.load_manifest(other / "records", "val").count == 1
    assert (other / "run" / "report" / "index.html").exists()
    assert len(list((other / "samples").iterdir())) == 1


@pytest.fixture
def begun(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    """The command's settings after it has begun, its steps left out; photos of its own."""
    shutil.copytree(photos, tmp_path / "voc")
    monkeypatch.setattr(pipeline, "_take_steps", lambda steps: None)
    settings = RunSettings((tmp_path / "voc",), output=tmp_path / "mine", preset="ssd_compact")
    assert pipeline.run_photos(settings) == 0
    return settings


def refused(settings: RunSettings) -> str:
    """What it says of settings; the output folder stays as it is."""
    before = contents(settings.output)
    with pytest.raises(TrainingError) as caught:
        pipeline.run_photos(settings)
    assert contents(settings.output) == before
    return str(caught.value)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_other_photos_do_not_go_on(begun: RunSettings) -> None:
    (folder,) = begun.folders
    image, boxes = folder / "JPEGImages/smear-2.jpg", folder / "Annotations/smear-3.xml"
    boxes.write_text(boxes.read_text().replace("<name>WBC<", "<name>RBC<"))
    changed = refused(begun)
    assert "mine was begun with, 1 changed (such as train/smear-3): give those to go on" in changed
    image.write_bytes((folder / "JPEGImages/smear-1.jpg").read_bytes() + b"0")
    assert "2 changed (such as train/smear-2)" in refused(begun)
    image.unlink()
    assert "1 gone (such as train/smear-2), 1 changed (such as train/smear-3)" in refused(begun)


def test_moved_photos_and_more_epochs_go_on(begun: RunSettings, tmp_path: Path) -> None:
    (tmp_path / "voc").rename(tmp_path / "moved")
    moved = replace(begun, folders=(tmp_path / "moved",), epochs=500, stop_early=3)
    assert pipeline.run_photos(moved) == 0


def test_photos_are_cut_into_tiles(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pipeline, "_take_steps", lambda steps: steps[0].take())
    settings = RunSettings((photos,), output=tmp_path / "mine", preset="ssd_compact", tile=480)
    assert pipeline.run_photos(settings) == 0
    assert records.load_manifest(tmp_path / "mine/records", "train").tile == 480
    assert "ask it    python -m client detect PHOTO --tile 480" in capsys.readouterr().out
    too_small = replace(settings, output=tmp_path / "other", preset="ssd_lite0", tile=310)
    with pytest.raises(TrainingError, match="tiles of 310 pixels are smaller than the network's"):
        pipeline.run_photos(too_small)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "ssd_lite0"}, "--preset (was 'ssd_compact', now 'ssd_lite0')"),
        ({"seed": 1, "val": 0.4}, "--seed (was 0, now 1), --val (was 0.2, now 0.4)"),
    ],
)
def test_other_settings_do_not_go_on(
    begun: RunSettings, changes: dict[str, Any], message: str
) -> None:
    told = refused(replace(begun, **changes))
    assert f"was begun with other settings: {message}. Give the same ones to go on" in told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": 8}, "--freeze: ssd_compact takes 0, found 8"),
        ({"pretrained": "no/such.pth"}, "found no/such.pth, which does not exist"),
        ({"input_size": 333}, "--input-size: ssd_compact takes multiples of 32"),
        ({"epochs": 0}, "--epochs must be 1 or more, got 0"),
        ({"labels": ("crack",)}, "no image of train has a box of crack: nothing to learn from"),
    ],
)
def test_nothing_is_begun_that_cannot_be_done(
    photos: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    settings = RunSettings((photos,), output=tmp_path / "mine", preset="ssd_compact", **changes)
    assert message in refused(settings)
    assert not settings.output.exists()


def test_only_its_own_folder_is_written_to(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert "nothing that this command began" in refused(RunSettings((photos,), output=tmp_path))
    inside = RunSettings((photos,), output=photos / "mine")
    assert "lies in the photos' folder" in refused(inside)


def test_several_machines_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of them would write the same records."""
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    with pytest.raises(TrainingError, match=r"for one machine, and TF_CONFIG .* names several"):
        pipeline.run_photos(RunSettings((tmp_path,), output=tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()
