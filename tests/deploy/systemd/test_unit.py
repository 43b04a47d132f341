"""The units: systemd understands them and finds little to object to, and their commands serve."""

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import Detector, Security
from client.errors import DetectorError
from serving.server.running import TRITON_EXIT_SECONDS
from serving.server.server import ServerSettings
from tests import certificates
from tests.conftest import PROJECT

UNITS = PROJECT / "deploy" / "systemd"
UNIT, GATEWAY = UNITS / "ssd-on-triton.service", UNITS / "ssd-on-triton-gateway.service"
INSTALLED = "/opt/ssd-on-triton"
NEWER = {"RestartSteps", "RestartMaxDelaySec"}  # systemd 254

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: Debian's systemd"
)


def service(unit: Path = UNIT) -> configparser.SectionProxy:
    """The section that says how it runs."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return parser["Service"]


@pytest.fixture(params=[UNIT, GATEWAY], ids=lambda unit: unit.stem)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit as if this checkout were the installation, which is seen to be whole."""
    path = tmp_path / request.param.name
    path.write_text(request.param.read_text().replace(INSTALLED, str(PROJECT)))
    return path


def command_of(unit: Path, variables: Mapping[str, str]) -> list[str]:
    """The words of its command in this checkout, as systemd fills in the variables."""
    text = service(unit)["ExecStart"].replace(INSTALLED, str(PROJECT))
    command = " ".join(
        variables[word[1:]]
        if word[0] == "$" and word[1] != "{"
        else re.sub(r"\$\{(\w+)\}", lambda m: shlex.quote(variables[m[1]]), word)
        for word in text.split()
    )
    return shlex.split(command)


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


@contextmanager
def running(command: Sequence[str], variables: Mapping[str, str], last: str) -> Iterator[str]:
    """What it printed up to a line that begins so. It must end by itself when it is told to."""
    environment = {**os.environ, **variables}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdout
        told = ""
        for line in process.stdout:
            told += line
            if line.startswith(last):
                break
        yield told
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert "stopped" in rest


def test_their_commands_serve_and_end_with_a_signal(tmp_path: Path) -> None:
    variable, _, repository = service()["Environment"].partition("=")
    variables = {
        variable: repository.replace(INSTALLED, str(PROJECT)),
        "SSD_OPTIONS": "--http-port=0 --grpc-port=0 --metrics-port=0",
        "TRITON_ADMIN_KEY": "k" * 32,
        "SSD_GATEWAY_OPTIONS": "--port=0",
    }
    certificates.write(tmp_path)
    for kind in ("pem", "key"):
        (tmp_path / f"server.{kind}").rename(tmp_path / f"gateway.{kind}")
    (tmp_path / "keys.txt").write_text(f"camera-1 {'a' * 64}\n")
    gateway = [
        word.replace("/etc/ssd-on-triton", str(tmp_path)).replace("0.0.0.0", "127.0.0.1")
        for word in command_of(GATEWAY, variables)
    ]
    photo = PROJECT / "samples" / "smear-1.jpg"
    with running(command_of(UNIT, variables), variables, "stop with") as told:
        http, grpc = (
            re.findall(rf"{name} +(?:http://)?(\S+)", told)[0] for name in ("HTTP", "gRPC")
        )
        (tmp_path / "servers.txt").write_text(f"{grpc} {http}\n")
        with running(gateway, variables, "ready") as told:
            url = "grpcs://localhost:" + re.findall(r":(\d+)", told.partition("ready")[2])[0]
            with (
                Detector(url, security=Security(ca=tmp_path / "ca.pem")) as nobody,
                pytest.raises(DetectorError, match="key"),
            ):
                nobody.detect(photo)
            security = Security(ca=tmp_path / "ca.pem", api_key="a" * 64)
            with Detector(url, security=security) as camera:
                assert camera.detect(photo).detections


def test_it_is_given_the_time_to_drain() -> None:
    drain = ServerSettings("models").drain_seconds
    assert float(service()["TimeoutStopSec"]) > drain + 2 * (TRITON_EXIT_SECONDS + 2)


def test_paths_are_those_of_one_installation() -> None:
    """A stranger finds each of them in the documentation."""
    pages = [PROJECT / "docs" / name for name in ("serving.md", "clouds.md")]
    told = "".join(page.read_text() for page in pages)
    units = "".join(unit.read_text() for unit in (UNIT, GATEWAY))
    found = re.findall(r"(?<![\w.])/(?:opt|etc)/[\w./-]+", units)
    for path in {path.rstrip(".,;") for path in found}:
        inside = path.removeprefix(f"{INSTALLED}/")
        assert path in told or (PROJECT / inside).exists(), path
