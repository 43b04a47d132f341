"""The learning-rate finder: its arithmetic, a sweep of a real network, what it refuses."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import __main__ as command_line
from training import find_rate
from training.find_rate import Sweep
from training.run_folder import plain_settings
from training.settings import TrainSettings

RATES = np.geomspace(1e-5, 1.0, 100)


def test_a_rate_below_the_lowest_loss_is_suggested() -> None:
    losses = 3 + np.abs(np.log10(RATES) + 2)  # falls to 3 at 0.01, then rises
    found = Sweep(RATES, losses)
    assert 0.01 <= found.lowest_at < 0.03  # a moving average comes late
    assert found.suggested == pytest.approx(found.lowest_at / 10, rel=0.05)
    assert not found.has_diverged


def test_the_average_is_unbiased_from_its_first_step() -> None:
    assert Sweep(RATES, np.full(100, 7.0)).smoothed == pytest.approx(np.full(100, 7.0))
    noise = np.random.default_rng(0).normal(5, 1, 100)
    smoothed = Sweep(RATES, noise).smoothed
    assert smoothed[0] == noise[0]
    assert smoothed[20:].std() < noise[20:].std() / 2


@pytest.mark.parametrize("last", [np.nan, np.inf, 1000.0])
def test_a_loss_that_is_none_or_far_too_high_ends_it(last: float) -> None:
    found = Sweep(RATES[:31], np.append(np.linspace(5, 3, 30), last))
    assert found.has_diverged
    assert found.lowest_at == RATES[29]


@pytest.fixture
def arguments(tiny_network: None, records_folder: Path, tmp_path: Path) -> list[str]:
    picture = str(tmp_path / "rates.png")
    return [
        *("find-rate", str(records_folder), "--output", picture, "--preset", "ssd_compact"),
        *("--batch-size", "2", "--steps", "20"),
    ]


def test_a_picture_and_nothing_else_is_left(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, tell = [], find_rate._tell

    def keep(settings: find_rate.FindRateSettings, found: Sweep, usual: float) -> None:
        seen.append(found)
        tell(settings, found, usual)

    monkeypatch.setattr(find_rate, "_tell", keep)
    monkeypatch.chdir(tmp_path)
    assert command_line.main(arguments) == 0
    told = capsys.readouterr().out
    (found,) = seen
    assert found.rates == pytest.approx(np.geomspace(1e-5, 1.0, 20)[: len(found.rates)])
    assert f"suggested: --learning-rate {found.suggested:g} (a tenth" in told
    assert "ssd_compact, 8 images, up to 20 steps of 2 on 1 CPU" in told
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]
    picture = np.array(Image.open(tmp_path / "rates.png").convert("RGB"))
    assert picture.shape == (630, 1080, 3)
    assert picture.std() > 5
    assert (picture[0, 0] == 255).all()


def test_the_settings_of_a_run_are_taken_but_for_its_folder(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainSettings(
        records_folder, tmp_path / "run", epochs=60, seed=3, learning_rate=0.5, batch_size=4
    )
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"settings": plain_settings(settings)}))
    with pytest.raises(SystemExit):  # no --output: the run's folder is none
        command_line.main(["find-rate", "--config", str(path)])
    capsys.readouterr()
    arguments = ["--config", str(path), "--output", str(tmp_path / "a.txt")]
    assert command_line.main(["find-rate", *arguments]) == 1
    assert "--output must name a .png file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--output": "rates.svg"}, "--output must name a .png file, got rates.svg"),
        ({"--output": "none/rates.png"}, "there is no folder none"),
        ({"--steps": "19"}, "--steps must be 20 or more, got 19"),
        ({"--lowest": "0"}, "--lowest must be above 0 and below --highest, got 0 and 1"),
        ({"--highest": "1e-6"}, "below --highest, got 1e-05 and 1e-06"),
        ({"--batch-size": "0"}, "--batch-size must be 1 or more, got 0"),
        ({"--lowest": "1e30", "--highest": "1e31"}, "begin with a lower one than --lowest 1e+30"),
    ],
)
def test_what_is_refused_is_one_sentence_and_writes_nothing(
    changed: dict[str, str],
    message: str,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = [word for pair in changed.items() for word in pair]
    assert command_line.main([*arguments, *more]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_bears_on_nothing_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["find-rate", "--help"])
    told = capsys.readouterr().out
    hidden = ("--epochs", "--stop-early", "--learning-rate", "--checkpoint-every", "--mlflow")
    assert not [option for option in hidden if option in told]
    assert "--clip-norm" in told
    names = {field.name for field in dataclasses.fields(TrainSettings)}
    assert names < {field.name for field in dataclasses.fields(find_rate.FindRateSettings)}
