import dataclasses
import json
from pathlib import Path

import pytest
import tensorflow as tf

from training import __main__ as command_line
from training import checkpoints
from training.network.presets import SSD_COMPACT
from training.run_folder import plain_settings, write_json
from training.settings import TrainSettings


def write_run(run: Path, figure: float | None = None, suffix: str = "") -> Path:
    """A run folder of ten steps, without a network; evaluated where a figure is given."""
    settings = TrainSettings(records=Path("records"), output=run, preset="ssd_compact")
    description = {
        "settings": plain_settings(settings),
        "preset": dataclasses.asdict(SSD_COMPACT),
        "labels": ["cat", "dog"],
        "fingerprint": "abc",
        "trained_on": {"complete": True, "photos": ["0123", "4567"]},
    }
    run.mkdir(parents=True)
    write_json(run / "run.json", description)
    if figure is not None:
        whole = tf.train.Checkpoint(weight=tf.Variable(1.0))
        checkpoints.save_checkpoint(whole, run / "checkpoints", 10)
        figures = {f"mAP@0.5{suffix}": figure, f"mAP@[.5:.95]{suffix}": figure / 2}
        per_class = {"cat": figures, "dog": figures}
        metrics = {"step": 10, "trained_on": 0, **figures, "per_class": per_class}
        metrics |= {"split": "val", "images": 4}
        write_json(run / "metrics.json", metrics)
    return run


def test_a_row_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", 0.9)
    write_run(tmp_path / "a" / "best", 0.95)  # of the same run
    write_run(tmp_path / "deep" / "b")
    write_run(tmp_path / "c", 0.8, " of photos trained on")
    assert command_line.main(["runs", str(tmp_path)]) == 0
    _, a, c, b, note = capsys.readouterr().out.splitlines()
    assert a.split()[:6] == [str(tmp_path / "a"), "ssd_compact", "2", "10", "0.900", "0.450"]
    assert b.split()[:6] == [str(tmp_path / "deep" / "b"), "ssd_compact", "2", "0", "-", "-"]
    assert c.split()[4:6] == ["0.800*", "0.400*"]
    assert note.startswith("*: on photos that it was trained on")


def test_json_is_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a", 0.9)
    assert command_line.main(["runs", str(run), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row.pop("when").endswith("+00:00")
    assert row == {
        "name": str(run),
        "preset": "ssd_compact",
        "photos": 2,
        "steps": 10,
        "mAP@0.5": 0.9,
        "mAP@[.5:.95]": 0.45,
    }


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("run.json", '{"settings"', "is not JSON"),
        ("run.json", "[]", "not as `training train` writes it"),
        ("run.json", '{"preset": {}}', "not as `training train` writes it"),
        (
            "metrics.json",
            '{"step": 10, "trained_on": 0, "mAP@0.5": null}',
            "not as `training train` writes it",
        ),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(
    file: str, text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "whole", 0.9)
    (write_run(tmp_path / "bad", 0.9) / file).write_text(text)
    assert command_line.main(["runs", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert str(tmp_path / "whole") in told.out
    assert str(tmp_path / "bad") not in told.out
    assert told.err.startswith(f"damaged: {tmp_path / 'bad'}: ")
    assert reason in told.err


@pytest.mark.parametrize(("folder", "message"), [("", "no run in"), ("none", "no such folder")])
def test_where_no_run_is(
    folder: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["runs", str(tmp_path / folder)]) == 1
    assert message in capsys.readouterr().err
