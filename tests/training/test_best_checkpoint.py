"""Runs whose figures on val are made up: what is kept as the best, and when a run ends early."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.tiny_training import backbone
from training import average, run_folder, train
from training.errors import TrainingError
from training.evaluation.score import Metrics
from training.network import model
from training.network.presets import SSD_COMPACT
from training.settings import TrainSettings
from training.validation import Validation

START_AVERAGE = average.start_average
PRESET = dataclasses.replace(SSD_COMPACT, optimizer="sgd", weight_decay=0.0)


class Script:
    """Figures in place of measured ones, in their order, and the weights that they are for."""

    def __init__(self, figures: list[float]) -> None:
        self.figures, self.trained_on = figures, 0
        self.weights: list[np.ndarray] = []
        self.reports = 0

    def start_average(self, *arguments: Any) -> keras.Model:
        self.average = START_AVERAGE(*arguments)
        return self.average

    def measure(self) -> SimpleNamespace:
        self.weights.append(np.array(self.average.weights[0]))
        figure = self.figures[len(self.weights) - 1]
        metrics = Metrics(figure, figure, {}, 4, "val", self.trained_on)
        told = {"rates": lambda: {"f1": figure}, "threshold": 0.5}
        return SimpleNamespace(metrics=metrics, facts=metrics.to_dict(), **told)

    def report(self, *_: object) -> None:
        self.reports += 1


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script([0.1, 0.3, 0.2, 0.3, 0.1, 0.1])
    monkeypatch.setattr(model, "compact", backbone)
    monkeypatch.setattr(average, "start_average", script.start_average)
    monkeypatch.setattr(Validation, "measure", script.measure)
    monkeypatch.setattr(Validation, "write", lambda *_: None)
    monkeypatch.setattr(Validation, "write_report", script.report)
    return script


def _settings(records_folder: Path, output: Path, **changes: Any) -> TrainSettings:
    """An epoch is two steps of four images, and evaluated."""
    settings = TrainSettings(
        records_folder, output, preset="ssd_compact", epochs=6, batch_size=4, learning_rate=1e-3,
        warmup_epochs=0, evaluate_every=1, precision="float32",
    )  # fmt: skip
    return dataclasses.replace(settings, **changes)


def test_the_best_weights_are_a_run_of_their_own(
    records_folder: Path, tmp_path: Path, script: Script
) -> None:
    run = tmp_path / "run"
    train.train_preset(_settings(records_folder, run), PRESET)
    kept, *_ = run_folder.load_network(run / "best")
    np.testing.assert_array_equal(kept.weights[0], script.weights[1])
    last, *_ = run_folder.load_network(run)
    np.testing.assert_array_equal(last.weights[0], script.weights[5])
    assert not np.array_equal(kept.weights[0], last.weights[0])
    metrics = run_folder.read_metrics(run / "best")
    assert metrics
    assert (metrics["step"], metrics["mAP@[.5:.95]"]) == (4, 0.3)
    assert {path.stem for path in (run / "best" / "checkpoints").iterdir()} == {"ckpt-4"}
    assert run_folder.read_description(run / "best")["chosen_on"] == "val"
    with pytest.raises(TrainingError, match="holds a run's best: train it into another folder"):
        train.train_preset(_settings(records_folder, run / "best"), PRESET)


def test_a_run_ends_after_evaluations_that_were_no_better(
    records_folder: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = _settings(records_folder, run, stop_early=2)
    assert not train.is_complete(settings)
    train.train_detector(settings)
    assert train.is_complete(settings)
    assert run_folder.newest_step(run) == 8
    assert (len(script.weights), script.reports) == (4, 1)
    assert "no better on val for 2 evaluations" in capsys.readouterr().out
    train.train_detector(settings)
    assert "stopped early at step 8: --stop-early 0 goes on" in capsys.readouterr().out
    goes_on = dataclasses.replace(settings, stop_early=0)
    assert not train.is_complete(goes_on)
    train.train_detector(goes_on)
    assert train.is_complete(goes_on)
    assert run_folder.newest_step(run) == 12
    assert (len(script.weights), script.reports) == (6, 2)
    best = run_folder.read_metrics(run / "best")
    assert best
    assert best["step"] == 4


def test_photos_that_were_trained_on_choose_nothing(
    records_folder: Path, tmp_path: Path, script: Script
) -> None:
    script.trained_on = 1
    train.train_preset(_settings(records_folder, tmp_path / "run", epochs=1), PRESET)
    assert not (tmp_path / "run" / "best").exists()
