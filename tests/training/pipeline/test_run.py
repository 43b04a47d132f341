"""The one command: killed in each of its steps it comes to the very same end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conftest import PROJECT
from tests.training.networks import run
from training.data import records
from training.render import smears

TINY = Path(__file__).parent.parent / "tiny_training.py"
OPTIONS = ["--preset", "ssd_compact", "--epochs", "7", "--seed", "3"]
# Where it is killed, by what is not yet whole then.
KILLED = {
    "records/train.json": {"KILL_IN": "training.data.records_writer._publish"},
    "boxes.json": {"KILL_IN": "training.fit.write_fitted"},
    "run/report": {"KILL_AT": "2"},
    "run/report/index.html": {"KILL_IN": "training.evaluation.report.write_report"},
    "float32": {"KILL_IN": "training.export.export._seal_card"},
    "int8": {"KILL_IN": "training.export.precisions._write_card"},
}
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotated photos without a val split."""
    folder = tmp_path_factory.mktemp("photos") / "voc"
    assert smears.render_smears(smears.RenderSettings(folder, count=6, val=0)) == 0
    return folder


@pytest.fixture
def run_in(photos: Path, tmp_path: Path) -> Iterator[Run]:
    """Runs the command with an output of this name; gives its exit code, and what it printed."""
    command = [sys.executable, str(TINY), "run", str(photos), "--output", "mine", *OPTIONS]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", "FORK": ""},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin
    assert process.stdout

    def run_once(**environment: str) -> tuple[int, str]:
        print(json.dumps(environment), file=process.stdin, flush=True)
        text = ""
        for line in process.stdout or ():
            if line.startswith("exit "):
                return int(line.split()[1]), text
            text += line
        raise AssertionError(text)

    yield run_once
    process.communicate(timeout=60)


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
    assert text.count("done before") == len(KILLED) - 1
    for once in ("nothing is wrong", "train: 5 images in", "SavedModel and ONNX", "epoch 9\n"):
        assert (told + text).count(once) == 1, once
    assert_same(whole, output)
    code, text = run_in()
    assert (code, text.count("done before")) == (0, len(KILLED))


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
