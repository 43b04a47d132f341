"""Runs in a real MLflow store, a folder; what is told where there is none."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from training import __main__ as command_line
from training import run_folder, tracking, train
from training.network.presets import PRESETS, SSD_COMPACT
from training.settings import TrainSettings
from training.tracking import Tracker

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader")  # MLflow's, of SQLAlchemy


@pytest.fixture
def settings(
    tiny_network: None, records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TrainSettings:
    monkeypatch.setitem(
        PRESETS, "ssd_compact", dataclasses.replace(SSD_COMPACT, optimizer="sgd", weight_decay=0.0)
    )
    return TrainSettings(
        records_folder,
        tmp_path / "run",
        preset="ssd_compact",
        epochs=2,
        batch_size=4,
        mlflow=str(tmp_path / "tracking"),
    )


def open_store(where: Path) -> tuple[mlflow.MlflowClient, list[Any]]:
    """A client of its own, and the runs that are there."""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{where}/mlflow.db")
    (experiment,) = [x for x in client.search_experiments() if x.name == "ssd-on-triton"]
    return client, client.search_runs([experiment.experiment_id])


@pytest.mark.slow
def test_a_run_that_goes_on_is_one_run_there_too(
    settings: TrainSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.train_detector(settings) == 0
    assert train.train_detector(dataclasses.replace(settings, epochs=3)) == 0
    client, (run,) = open_store(tmp_path / "tracking")
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["batch_size"] == "4"
    assert run.data.params["learning_rate"] == "the preset's"
    assert (
        run.data.tags["fingerprint"] == run_folder.read_description(settings.output)["fingerprint"]
    )
    metrics = run_folder.read_json(settings.output / "metrics.json", "")
    assert run.data.metrics["val/mAP_0.5"] == pytest.approx(metrics["mAP@0.5"])
    assert run.data.metrics["val/mAP_0.5_to_0.95/RBC"] == pytest.approx(
        metrics["per_class"]["RBC"]["mAP@[.5:.95]"]
    )
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == sorted(set(steps))
    assert steps[-1] == metrics["step"] == 6
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"run.json", "metrics.json", "report"}
    assert "report/index.html" in {x.path for x in client.list_artifacts(run.info.run_id, "report")}
    # An export adds its card.
    card = tmp_path / "card.json"
    card.write_text("{}")
    tracking.add_card(settings.output, card)
    assert "card.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert "MLflow does not take" not in capsys.readouterr().err


def test_without_the_option_nothing_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", _missing)
    tracker = tracking.open_tracker(None, tmp_path)
    tracking.check_tracking(None)
    with tracker.follow(tmp_path):
        tracker.add(1, {"train/loss": 1.0})
        tracker.send()
    tracking.add_card(tmp_path, tmp_path / "card.json")
    assert not tracker.points
    assert not list(tmp_path.iterdir())


def _missing(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_not_installed_is_one_sentence_before_anything_is_written(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name: _missing(name) if name == "mlflow" else load(name)
    )
    assert _train(settings) == 1
    assert capsys.readouterr().err == (
        "error: --mlflow needs the package mlflow: "
        ".venv/bin/pip install -c constraints.txt -e '.[training,mlflow]'\n"
    )
    assert not settings.output.exists()


def _train(settings: TrainSettings) -> int:
    assert settings.mlflow
    options = ["--output", str(settings.output), "--mlflow", settings.mlflow]
    return command_line.main(["train", str(settings.records), *options])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("http://127.0.0.1:1", "--mlflow http://127.0.0.1:1: no MLflow is there, or it refuses ("),
        ("https://me:secret@mlflow.example", "--mlflow names a password, which would stand in"),
        ("ftp://mlflow.example", "--mlflow ftp://mlflow.example: no MLflow is there, or it ref"),
        ("{file}", "expected a folder or an address"),
    ],
)
def test_no_mlflow_is_one_sentence_before_anything_is_written(
    where: str,
    message: str,
    settings: TrainSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    where = where.format(file=tmp_path / "file")
    assert _train(dataclasses.replace(settings, mlflow=where)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "secret" not in error
    assert error.count("\n") == 1
    assert not settings.output.exists()


class Failing:
    """A client whose server is away at first."""

    def __init__(self) -> None:
        self.away = True
        self.metrics: list[Any] = []

    def log_batch(self, run_id: str, metrics: list[Any]) -> None:
        if self.away:
            raise MlflowException("API request failed\nwith a long story")
        self.metrics += metrics


def test_a_server_that_is_away_stops_no_training_and_gets_all_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Failing()
    tracker = Tracker(client, "1")
    tracker.add(10, {"train/loss": 2.0, "val/mAP@0.5/a class: x[1]": 0.5})
    tracker.send()
    told = capsys.readouterr().err
    assert told == (
        "MLflow does not take what is sent (API request failed): the next checkpoint tries again\n"
    )
    client.away = False
    tracker.add(20, {"train/loss": 1.0})
    tracker.send()
    tracker.send()
    assert [(x.key, x.value, x.step) for x in client.metrics] == [
        ("train/loss", 2.0, 10),
        ("val/mAP_0.5/a class_ x_1_", 0.5, 10),
        ("train/loss", 1.0, 20),
    ]


def test_it_tells_nobody_that_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    tracking._load_mlflow()
    from mlflow.telemetry.utils import is_telemetry_disabled

    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    monkeypatch.delenv("CI", raising=False)
    assert is_telemetry_disabled()
