"""The whole loop once: real photos, steps of a tiny network, a real gate over a real Triton."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.__main__ import main as serving
from serving.history import read_trained_on
from serving.repository import State, open_repository
from serving.store.address import open_store
from tests.conftest import PROJECT
from tests.training.tiny_training import start_trainer
from training.data.records import photo_id
from training.render.smears import RenderSettings, render_smears

FIRST = [
    "coco frozen --split val --output test.json",
    "records voc --output records --labels RBC WBC Platelets",
    "train records --preset ssd_compact --epochs 1 --batch-size 4 --output first",
    "export first --output artifact",
]
LOOP = (
    "run --inbox inbox --data voc --test test.json --start first --output rounds --epochs 1 "
    "--repository models --precision float32 --new 4"
)
ENVIRONMENT = os.environ | {"PYTHONPATH": str(PROJECT)}


def run_python(module: str, command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *command.split()],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def _trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`python -m training` in the current folder trains the tiny network."""
    monkeypatch.chdir(tmp_path)
    with start_trainer(tmp_path) as words:
        Path("training").mkdir()
        Path("training", "__init__.py").touch()
        Path("training", "__main__.py").write_text(
            f"import os, sys\nos.execv(sys.executable, {words!r} + sys.argv[1:])\n"
        )
        yield


def render(folder: str, count: int, seed: int) -> None:
    assert render_smears(RenderSettings(Path(folder), count, seed=seed, width=320, height=240)) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_trainer")
def test_corrected_photos_become_a_live_version() -> None:
    for folder, count, seed in (("voc", 6, 1), ("frozen", 4, 2), ("inbox", 4, 3)):
        render(folder, count, seed)
    for command in FIRST:
        run_python("training", command)
    assert serving(["publish", "artifact", "--repository", "models", "--no-private-server"]) == 0
    text = run_python("learning", LOOP)
    assert "Round 0001 is released: version 2 is live." in text
    repository = open_repository(open_store(Path("models")), "ensemble")
    assert repository.state() == State(2)
    learned = read_trained_on(repository.read_network(2))
    assert len(learned & {photo_id(path) for path in Path("inbox/JPEGImages").iterdir()}) == 3
    round_ = Path("rounds/0001")
    settings = json.loads((round_ / "run/run.json").read_text())["settings"]
    assert (settings["pretrained"], settings["batch_size"]) == ("first", 4)
    page = Path("rounds/index.html").read_text()
    assert all(f"<td>{name}</td>" in page for name in ("test.json", "new.json"))
    assert (round_ / "run/report/index.html").exists()
    assert "nothing new" in run_python("learning", LOOP)
