"""A full disk is one sentence, and leaves the older output whole and nothing half-written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import SmallDisk
from training import (
    checkpoints,
    disk,
    prune,
    run_folder,
    train,
)
from training.__main__ import main
from training.data import records
from training.network import model
from training.network.presets import SSD_COMPACT
from training.render import smears
from training.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("tiny_network")
LEFT = [0, 50_000, 150_000]  # bytes: it stops at the first file, or among them


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # or `main` sets it


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "voc"
    assert smears.render_smears(smears.RenderSettings(folder, count=20, width=320, height=240)) == 0
    return folder


def _refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
    """The command ends with a sentence."""
    capsys.readouterr()
    assert main([str(each) for each in arguments]) == 1
    said = capsys.readouterr().err
    assert said.count("error: there is no room to write (") == 1, said
    assert "What was whole before is as it was" in said


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_a_full_disk_is_called(code: int) -> None:
    assert disk.is_full(OSError(code, os.strerror(code)))
    assert not disk.is_full(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    assert disk.sentence(ValueError("{{a}} b [Op:c]")) == "{{a}} b [Op:c]"


def test_a_file_is_replaced_whole_or_not_at_all(small_disk: SmallDisk) -> None:
    path = small_disk.folder / "file"
    disk.write_file(path, "older")
    small_disk.fill()
    with pytest.raises(OSError, match="No space left"):
        disk.write_file(path, bytes(10_000))
    assert small_disk.contents() == {str(path): b"older"}


@pytest.mark.parametrize("left", LEFT)
def test_records(
    voc: Path, small_disk: SmallDisk, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """All splits stay: a new train beside the older val would be trained on what is held out."""
    output = small_disk.folder / "records"
    assert main(["records", str(voc), "--output", str(output)]) == 0
    before = small_disk.contents()
    small_disk.fill(left)
    _refused(capsys, "records", voc, "--output", output, "--resplit", "--seed", 1)
    assert small_disk.contents() == before
    small_disk.free()
    assert main(["records", str(voc), "--output", str(output), "--resplit", "--seed", "1"]) == 0
    assert small_disk.contents() != before


@pytest.mark.parametrize("left", LEFT)
def test_render(small_disk: SmallDisk, left: int, capsys: pytest.CaptureFixture[str]) -> None:
    small_disk.fill(left)
    command = ["render", small_disk.folder / "voc", "--count", 20, "--width", 320, "--height", 240]
    _refused(capsys, *command)
    assert small_disk.contents() == {}
    small_disk.free()
    assert main([str(each) for each in command]) == 0


def test_coco(voc: Path, small_disk: SmallDisk, capsys: pytest.CaptureFixture[str]) -> None:
    small_disk.fill()
    _refused(capsys, "coco", voc, "--output", small_disk.folder / "val.json")
    assert small_disk.contents() == {}


def test_fit(
    records_folder: Path, small_disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_disk.folder / "boxes.json"
    disk.write_file(path, "older")
    small_disk.fill()
    _refused(capsys, "fit", records_folder, "--output", path)
    assert small_disk.contents() == {str(path): b"older"}


def _checkpoint(size: int) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(weights=tf.Variable(np.random.default_rng(0).normal(size=size)))


@pytest.mark.parametrize("left", LEFT)
def test_a_checkpoint(small_disk: SmallDisk, left: int) -> None:
    """The older ones are not removed for it, and it leaves nothing that takes up room."""
    for step in range(1, checkpoints.KEEP + 1):
        checkpoints.save_checkpoint(_checkpoint(100), small_disk.folder, step)
    before = small_disk.contents()
    small_disk.fill(left)
    with pytest.raises(tf.errors.OpError) as caught:
        checkpoints.save_checkpoint(_checkpoint(1_000_000), small_disk.folder, 9)
    assert disk.is_full(caught.value)
    assert small_disk.contents() == before
    assert checkpoints.newest_whole(small_disk.folder) == small_disk.folder / "ckpt-3"


def test_train(
    records_folder: Path, small_disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops at run.json, then at its first checkpoint."""
    command = ["train", records_folder, "--output", small_disk.folder / "run", "--epochs", 1]
    command += ["--batch-size", 4, "--evaluate-every", 0, "--preset", "ssd_compact"]
    small_disk.fill()
    _refused(capsys, *command)
    assert small_disk.contents() == {}
    small_disk.fill(40_000)
    _refused(capsys, *command)
    assert not list(small_disk.folder.rglob("ckpt-*"))
    assert (small_disk.folder / "run" / "run.json").exists()


@pytest.fixture
def run(records_folder: Path, tmp_path: Path) -> Path:
    """A run of a tiny network with one checkpoint, that nobody trained."""
    settings = TrainSettings(records_folder, tmp_path / "run", preset="ssd_compact")
    manifest = records.load_manifest(records_folder, "train")
    train.open_run(settings, SSD_COMPACT, manifest)
    checkpoint = tf.train.Checkpoint(average=model.build_network(SSD_COMPACT, 3))
    checkpoints.save_checkpoint(checkpoint, tmp_path / "run" / "checkpoints", 2)
    return tmp_path / "run"


@pytest.mark.parametrize("left", LEFT)
def test_export(
    run: Path, small_disk: SmallDisk, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    small_disk.fill(left)
    _refused(capsys, "export", run, "--output", small_disk.folder / "artifacts" / "mine")
    assert small_disk.contents() == {}


@pytest.mark.parametrize("left", [0, 20_000])
def test_prune(run: Path, small_disk: SmallDisk, left: int) -> None:
    output = small_disk.folder / "pruned"
    settings = prune.PruneSettings(run, run, output)
    network, preset, _ = run_folder.load_network(run)
    small_disk.fill(left)
    with pytest.raises((tf.errors.OpError, OSError)) as caught:
        prune.write_pruned(settings, network, preset, run_folder.trained_on(run))
    assert disk.is_full(caught.value)
    assert small_disk.contents() == {}
    assert not output.exists()
