import subprocess
import sys
from pathlib import Path

import pytest

from training import __main__ as command_line


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(name in usage for name in command_line.COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["trian"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert command_line.main(arguments) == 2


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command_line.main([command, "--help"])
    assert exit_.value.code == 0
    assert f"python -m training {command}" in capsys.readouterr().out


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["train", str(tmp_path), "--output", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert "Traceback" not in error


def test_what_needs_no_tensorflow() -> None:
    commands = [command_line.COMMANDS[name].module for name in command_line.WITHOUT_TENSORFLOW]
    modules = ", ".join(f"training.{name}" for name in [*commands, "evaluation.score"])
    code = f"import sys, {modules}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", ["check", "records", "coco"])
def test_no_folder_is_wrong_usage(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = [] if command == "check" else ["--output", str(tmp_path / "new.json")]
    assert command_line.main([command, *output]) == 2
    assert "expected one folder or more, found none" in capsys.readouterr().err
    assert command_line.main([command, str(tmp_path / "none"), *output]) == 1
    assert "no such folder" in capsys.readouterr().err
