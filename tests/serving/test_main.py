"""The command line: what it accepts, what it refuses, which exit code tells."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.__main__ import COMMANDS, main, split_arguments


def test_nothing_after_dashes() -> None:
    assert split_arguments([]) == ([], ())
    assert split_arguments(["up"]) == (["up"], ())


def test_what_follows_the_dashes_is_tritonservers() -> None:
    assert split_arguments(["up", "--", "--log-verbose=1", "--", "x"]) == (
        ["up"],
        ("--log-verbose=1", "--", "x"),
    )


@pytest.mark.parametrize("arguments", [[], ["up", "--nonsense"], ["publish"], ["nothing"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "compare"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    wanted = {"gateway": "--request-mb", "gateway-files": "--request-mb", "copy": "TARGET"}
    wanted |= {"backup": "TARGET", "restore": "BACKUP"}
    assert wanted.get(command, "--repository") in capsys.readouterr().out


def test_commands_do_without_the_backend_in_python() -> None:
    """Triton's own in C++ may take its place."""
    program = "import sys; sys.modules['serving.backends'] = None; import serving.__main__"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_commands_start_without_what_drift_alone_needs() -> None:
    program = "import sys, serving.__main__; sys.exit('scipy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_refusal_is_one_line_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--repository", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err == (
        f"error: model repository {tmp_path / 'absent'} does not exist: "
        "name one with --repository\n"
    )


def test_publish(
    make_artifact: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "models"
    assert main(["publish", str(make_artifact(["a"])), "--repository", str(target)]) == 0
    assert f"\nmade {target}: ensemble for a, version 1\n" in capsys.readouterr().out


def test_who_does_not_pass_a_trial_is_refused_with_3(
    make_artifact: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, target = make_artifact(["a"], box=(0.9, 0.9, 0.1, 0.1)), tmp_path / "models"
    assert main(["publish", str(artifact), "--repository", str(target)]) == 3
    assert "model.onnx gives boxes with x2 < x1" in capsys.readouterr().err
    assert not target.exists()


def test_only_up_passes_arguments_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--repository", str(tmp_path), "--", "2"]) == 2
    assert "only `up` passes arguments after --" in capsys.readouterr().err
