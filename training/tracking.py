"""A run in MLflow: its settings, its figures while it trains, and at its end its report.

RUN/mlflow.json   where, and as which run there, so that a run that goes on does so there, too

Figures are sent after each checkpoint: a run that is killed and continues does the steps after its
checkpoint again, and sends each once. mlflow is imported only where a run asks for it, and does not
tell its makers that it is used. What it cannot take does not stop a training.
"""

import contextlib
import importlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from training import run_folder
from training.errors import TrainingError

_FILE = "mlflow.json"
_EXPERIMENT = "ssd-on-triton"  # unless MLFLOW_EXPERIMENT_NAME says otherwise
_AT_ONCE = 1000  # figures in a request, MLflow's limit
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # not seven, for which a training would wait minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
}
# MLflow takes neither @ nor brackets in a name.
_NAMES = {"mAP@0.5": "mAP_0.5", "mAP@[.5:.95]": "mAP_0.5_to_0.95"}


class Tracker:
    """One run in MLflow; without a client nothing is kept and nothing sent."""

    def __init__(self, client: Any = None, run_id: str = "") -> None:
        self.client, self.run_id = client, run_id
        self.points: list[tuple[str, float, int, int]] = []  # name, value, milliseconds, step

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Keep figures until they are sent, under names that MLflow takes."""
        if self.client:
            now = int(time.time() * 1000)
            self.points += [(_name(key), float(x), now, step) for key, x in scalars.items()]

    def send(self) -> None:
        """Send what is kept; where that fails, a line says so and the next time tries again."""
        if self.client and self.points:
            metric = _load_mlflow().entities.Metric
            with _telling("the next checkpoint tries again"):
                while self.points:
                    part = [metric(*point) for point in self.points[:_AT_ONCE]]
                    self.client.log_batch(self.run_id, metrics=part)
                    del self.points[:_AT_ONCE]

    @contextlib.contextmanager
    def follow(self, output: Path) -> Iterator[None]:
        """Tell how the training within ends, and send what it left in its run folder."""
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            if self.client:
                self.send()
                with _telling("`train` again tries again"):
                    for name in ("run.json", "metrics.json"):
                        if (output / name).exists():
                            self.client.log_artifact(self.run_id, str(output / name))
                    if status == "FINISHED" and (output / "report").exists():
                        self.client.log_artifacts(self.run_id, str(output / "report"), "report")
                    self.client.set_terminated(self.run_id, status)


def open_tracker(where: str | None, output: Path) -> Tracker:
    """The tracker of a run whose run.json is written; of one that goes on, the same as before.

    where: an address of MLflow, or a folder; None: nowhere.

    Raises:
        TrainingError: mlflow is not installed, or there is no MLflow.
    """
    if not where:
        return Tracker()
    client, experiment = _open_experiment(where)
    with _refusing(where):
        run_id = _find_run(client, where, output) or _begin_run(client, experiment, output)
    run_folder.write_json(output / _FILE, {"where": where, "run_id": run_id})
    return Tracker(client, run_id)


def check_tracking(where: str | None) -> None:
    """Refuse what cannot be tracked, before a run begins.

    Raises:
        TrainingError: it names a password, mlflow is not installed, or there is no MLflow.
    """
    if where:
        _open_experiment(where)


def add_card(run: Path, card: Path) -> None:
    """Send an artifact's card to where its run was tracked, if it was; say where that fails."""
    if not (run / _FILE).exists():
        return
    told = _read_told(run)
    try:
        client, _ = _open_experiment(told["where"])
    except TrainingError as error:
        print(f"the card is not in MLflow: {error}", file=sys.stderr)
        return
    with _telling("the card is not there"):
        client.log_artifact(told["run_id"], str(card))


def _open_experiment(where: str) -> tuple[Any, str]:
    """A client, and the id of the experiment in which runs stand."""
    address, artifacts = _find_address(where)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    mlflow = _load_mlflow()
    with _refusing(where):
        client = mlflow.MlflowClient(tracking_uri=address)
        found = client.get_experiment_by_name(name)
        if found:
            return client, found.experiment_id
        return client, client.create_experiment(name, artifact_location=artifacts)


def _load_mlflow() -> Any:
    """The package, quiet.

    Raises:
        TrainingError: it is not installed.
    """
    for name, value in _ENVIRONMENT.items():  # before the import, which reads them
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"--mlflow needs the package {error.name}: "
            ".venv/bin/pip install -c constraints.txt -e '.[training,mlflow]'"
        ) from None


def _find_address(where: str) -> tuple[str, str | None]:
    """The address of MLflow, and where files go: for a folder a database and a folder in it."""
    if "://" not in where:
        folder = Path(where).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise TrainingError(f"--mlflow {where}: expected a folder or an address") from None
        return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
    if urlsplit(where).password:
        raise TrainingError(
            "--mlflow names a password, which would stand in run.json and on the card: give it in "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return where, None


def _find_run(client: Any, where: str, output: Path) -> str | None:
    """The run that this folder has had there before; None where there is none."""
    if not (output / _FILE).exists():
        return None
    told = _read_told(output)
    if told["where"] != where:
        return None
    try:
        client.update_run(told["run_id"], status="RUNNING")
    except _load_mlflow().exceptions.MlflowException:  # it was removed there
        return None
    return str(told["run_id"])


def _read_told(run: Path) -> dict[str, Any]:
    return run_folder.read_json(run / _FILE, "what `training train --mlflow` wrote")


def _begin_run(client: Any, experiment: str, output: Path) -> str:
    description = run_folder.read_description(output)
    tags = {key: str(description[key]) for key in ("labels", "fingerprint")}
    run = client.create_run(experiment, run_name=output.resolve().name, tags=tags)
    settings = {
        key: "the preset's" if x is None else x for key, x in description["settings"].items()
    }
    param = _load_mlflow().entities.Param
    params = [param(key, str(value)) for key, value in settings.items() if key != "mlflow"]
    client.log_batch(run.info.run_id, params=params)
    return str(run.info.run_id)


def _name(scalar: str) -> str:
    for ours, theirs in _NAMES.items():
        scalar = scalar.replace(ours, theirs)
    return re.sub(r"[^\w/. -]", "_", scalar)


@contextlib.contextmanager
def _refusing(where: str) -> Iterator[None]:
    try:
        yield
    except _refusals() as error:
        raise TrainingError(
            f"--mlflow {where}: no MLflow is there, or it refuses ({_first_line(error)})"
        ) from None


@contextlib.contextmanager
def _telling(remedy: str) -> Iterator[None]:
    try:
        yield
    except _refusals() as error:
        line = f"MLflow does not take what is sent ({_first_line(error)}): {remedy}"
        tqdm.write(line, file=sys.stderr)


def _refusals() -> tuple[type[Exception], ...]:
    """What MLflow raises where it is away, or does not take what it is given."""
    return _load_mlflow().exceptions.MlflowException, OSError


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
