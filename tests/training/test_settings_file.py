import json
from pathlib import Path

import pytest

from training import __main__ as command_line
from training.errors import TrainingError
from training.pipeline.settings import RunSettings
from training.run_folder import plain_settings
from training.settings import TrainSettings
from training.settings_file import parse_settings


def _parse(path: Path, *arguments: str) -> TrainSettings:
    return parse_settings([*arguments, "--config", str(path)], "train", TrainSettings)


def _parse_run(path: Path, *arguments: str) -> RunSettings:
    return parse_settings([*arguments, "--config", str(path)], "run", RunSettings)


def test_the_settings_of_a_run_come_from_its_own_run_json(tmp_path: Path) -> None:
    settings = TrainSettings(
        records=Path("records"),
        output=Path("runs/a"),
        preset="ssd_compact",
        default_boxes=Path("boxes.json"),
        learning_rate=0.002,
        photometric=False,
    )
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"settings": plain_settings(settings), "labels": ["a"]}))
    assert _parse(path) == settings


def test_the_command_line_wins_and_what_differs_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"epochs": 60, "stop_early": 3, "batch_size": 16, "clip_norm": 1}')
    settings = _parse(path, "records", "--output", "run", "--epochs", "7", "--no-photometric")
    assert (settings.records, settings.output) == (Path("records"), Path("run"))
    assert (settings.epochs, settings.stop_early, settings.clip_norm) == (7, 3, 1)
    told = capsys.readouterr().out
    assert told.startswith("ssd_lite0, but for: ")
    assert "epochs 7," in told
    assert "stop_early 3 (not 0)" in told
    assert "photometric False (not True)" in told


def test_what_the_preset_has_anyway_is_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"resize": "stretch", "input_size": 320, "epochs": null, "seed": 0}')
    _parse(path, "records", "--output", "run")
    assert capsys.readouterr().out == "ssd_lite0, but for: nothing\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"ephocs": 3}', "there is no setting 'ephocs', the nearest is 'epochs'"),
        ('{"batch-size": 3}', "no setting 'batch-size', the nearest is 'batch_size'"),
        ('{"": 3}', "there is no setting '', the nearest is"),
        ('{"epochs": "3"}', "epochs must be an integer or null, got '3'"),
        ('{"epochs": true}', "epochs must be an integer or null, got True"),
        ('{"seed": 1.5}', "seed must be an integer, got 1.5"),
        ('{"xla": 1}', "xla must be true or false, got 1"),
        ('{"resize": "crop"}', "resize must be 'stretch' or 'letterbox' or null, got 'crop'"),
        ('{"preset": ["ssd_lite0"]}', "preset must be 'ssd_compact' or "),
        ('{"records": 3}', "records must be text, got 3"),
        ('{"epochs": 3', "is not JSON"),
        ("\udcff", "is not text: expected a JSON object"),
        ("[3]", "holds no settings: expected a JSON object"),
        ('{"settings": null}', "holds no settings: expected a JSON object"),
        (None, "does not exist: expected a JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence_and_nothing_is_written(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "settings.json", tmp_path / "run"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    arguments = ["records", "--output", str(run), "--config", str(path)]
    assert command_line.main(["train", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert message in error
    assert error.count("\n") == 1
    assert not run.exists()


def test_run_takes_the_recipe_of_a_run_and_its_own_photos_and_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainSettings(
        records=Path("records"),
        output=Path("runs/a"),
        default_boxes=Path("boxes.json"),
        precision="float32",
        preset="ssd_compact",
        epochs=60,
        vertical_flip=True,
    )
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"settings": plain_settings(settings)}))
    recipe = {"preset": "ssd_compact", "epochs": 60, "vertical_flip": True}
    wanted = RunSettings((Path("photos"),), output=Path("mine"), **recipe)  # type: ignore[arg-type]
    assert _parse_run(path, "photos", "--output", "mine") == wanted
    told = capsys.readouterr().out
    assert told == "ssd_compact, but for: epochs 60, vertical_flip True (not False)\n"
    with pytest.raises(SystemExit):
        _parse_run(path, "photos")  # where the run lies is no folder for all of it


def test_run_takes_what_it_wrote_as_it_began(tmp_path: Path) -> None:
    settings = RunSettings(
        (Path("photos"), Path("more")),
        output=Path("mine"),
        labels=("cat", "dog"),
        val=0.25,
        frozen=(Path("test.json"),),
    )
    path = tmp_path / "begun.json"
    path.write_text(json.dumps({"settings": plain_settings(settings), "photos": {}}))
    assert _parse_run(path) == settings
    assert _parse_run(path, "--output", "other", "--seed", "3").seed == 3


def test_what_run_is_not_told_is_not_lost_in_silence(tmp_path: Path) -> None:
    settings = TrainSettings(records=Path("records"), output=Path("runs/a"), learning_rate=0.002)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"settings": plain_settings(settings)}))
    with pytest.raises(
        TrainingError, match=r"learning_rate 0\.002 can be told to `training train`"
    ):
        _parse_run(path, "photos", "--output", "mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"vertcal_flip": true}', "no setting 'vertcal_flip', the nearest is 'vertical_flip'"),
        ('{"labels": "cat"}', "labels must be a list, each text, got 'cat'"),
        ('{"labels": [1]}', "labels must be a list, each text, got [1]"),
        ('{"val": "0.3"}', "val must be a number, got '0.3'"),
    ],
)
def test_of_run_too_a_file_that_cannot_be_read_is_one_sentence(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    arguments = ["photos", "--output", str(tmp_path / "mine"), "--config", str(path)]
    assert command_line.main(["run", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("command", command_line.WITH_FILE)
def test_help_names_the_file(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main([command, "--help"])
    assert "--config FILE" in capsys.readouterr().out
