"""The unit: systemd understands it and finds little to object to, and its command serves."""

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from serving.server.running import TRITON_EXIT_SECONDS
from serving.server.server import ServerSettings
from tests.conftest import PROJECT

UNIT = PROJECT / "deploy" / "systemd" / "ssd-on-triton.service"
INSTALLED = "/opt/ssd-on-triton"
NEWER = {"RestartSteps", "RestartMaxDelaySec"}  # systemd 254

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: Debian's systemd"
)


def service() -> configparser.SectionProxy:
    """The section that says how it runs."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser["Service"]


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as if this checkout were the installation, which is seen to be whole."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(INSTALLED, str(PROJECT)))
    return path


@needs_systemd
def test_systemd_understands_every_line(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    unknown = {
        match[1] for line in said if (match := re.search(r"Unknown key (?:name )?'(\w+)'", line))
    }
    assert done.returncode == 0
    assert unknown <= NEWER
    assert len(said) == len(unknown), said


@needs_systemd
def test_it_may_do_little(unit: Path) -> None:
    """Up to 10 tells how exposed a service is; one that says nothing about itself has 9.6."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_its_command_serves_and_ends_with_a_signal(tmp_path: Path) -> None:
    settings = service()
    variable, _, repository = settings["Environment"].partition("=")
    variables = {
        **os.environ,
        variable: repository.replace(INSTALLED, str(PROJECT)),
        "SSD_OPTIONS": "--http-port=0 --grpc-port=0 --metrics-port=0",
        "TRITON_ADMIN_KEY": "k" * 32,
    }
    text = settings["ExecStart"].replace(INSTALLED, str(PROJECT))
    command = " ".join(
        variables[word[1:]]
        if word[0] == "$" and word[1] != "{"
        else re.sub(r"\$\{(\w+)\}", lambda m: shlex.quote(variables[m[1]]), word)
        for word in text.split()
    )
    with subprocess.Popen(
        shlex.split(command), env=variables, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("stop with"):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert "stopped" in rest


def test_it_is_given_the_time_to_drain() -> None:
    drain = ServerSettings("models").drain_seconds
    assert float(service()["TimeoutStopSec"]) > drain + 2 * (TRITON_EXIT_SECONDS + 2)


def test_paths_are_those_of_one_installation() -> None:
    """A stranger finds each of them in the documentation."""
    told = (PROJECT / "docs" / "serving.md").read_text()
    found = re.findall(r"(?<![\w.])/(?:opt|etc)/[\w./-]+", UNIT.read_text())
    for path in {path.rstrip(".,;") for path in found}:
        inside = path.removeprefix(f"{INSTALLED}/")
        assert path in told or (PROJECT / inside).exists(), path
