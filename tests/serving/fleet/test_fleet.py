"""`serving gateway` and `serving fleet` as people run them: what they say, and what is left."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from serving.fleet.fleet import Fleet, FleetSettings
from tests.conftest import wait_until
from tests.serving.fleet.conftest import Recorder
from tests.serving.server.test_up import read_until

SERVING = [sys.executable, "-m", "serving"]
FREE = ["--port=0"]


@pytest.fixture
def servers(recorder: Recorder, tmp_path: Path) -> Path:
    """A list of one server, in a folder where temporary ones are made, too."""
    file = tmp_path / "servers.txt"
    file.write_text(f"{recorder.address} {recorder.address}\n")
    return file


@contextmanager
def running(*command: str, folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The command, killed at the latest when the test ends."""
    with subprocess.Popen(
        [*SERVING, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)} | variables,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def fail(*command: str, folder: Path, **variables: str) -> str:
    """What is said by a command that fails, which leaves nothing behind."""
    with running(*command, folder=folder, **variables) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert list(folder.glob("ssd-on-triton*")) == []
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--interactive-requests=0"], "--interactive-requests must be from 1 to 100000, found 0"),
        (["--certificate=a.pem", "--key=a.key"], "a.pem cannot be read: No such file"),
        (["--keys-file=a.txt"], "a.txt cannot be read: No such file or directory"),
    ],
)
@pytest.mark.parametrize("command", ["gateway", "fleet"])
def test_what_makes_no_sense_is_told_before_anything_starts(
    servers: Path, command: str, options: list[str], said: str
) -> None:
    what = [str(servers)] if command == "gateway" else []
    errors = fail(command, *what, *FREE, *options, folder=servers.parent)
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("command", ["gateway", "fleet"])
def test_a_port_in_use(servers: Path, command: str) -> None:
    what = [str(servers)] if command == "gateway" else []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        errors = fail(command, *what, f"--port={port}", folder=servers.parent)
    assert f"--port {port} cannot be used on 127.0.0.1 (Address already in use)" in errors


def test_an_address_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "servers.txt").write_text("127.0.0.1:9 127.0.0.1:9\n")
    errors = fail("gateway", str(tmp_path / "servers.txt"), *FREE, folder=tmp_path)
    assert "none of 127.0.0.1:9 answered an inference through ensemble within 20 s" in errors


def test_servers_by_name(tmp_path: Path) -> None:
    (tmp_path / "servers.txt").write_text("localhost:8001 localhost:8000\n")
    errors = fail("gateway", str(tmp_path / "servers.txt"), *FREE, folder=tmp_path)
    assert "servers are listed by their IP address, found localhost:8001" in errors


def test_a_server_of_the_fleet_that_does_not_start(repository: Path, tmp_path: Path) -> None:
    (repository / "ssd" / "1" / "model.onnx").write_bytes(b"junk")
    folder = tmp_path / "temporary"
    folder.mkdir()
    errors = fail("fleet", *FREE, f"--repository={repository}", folder=folder)
    assert "tritonserver did not start" in errors


def test_what_programs_read_of_a_fleet(tiny_repository: Path, tmp_path: Path) -> None:
    """Prometheus its targets, others the lines; and nothing of it stays."""
    file = tmp_path / "targets.json"
    options = [f"--prometheus-targets={file}", "--log-format=json"]
    command = ["fleet", *FREE, *options, f"--repository={tiny_repository}"]
    with running(*command, folder=tmp_path) as process:
        told = [json.loads(line) for line in read_until(process, "{", "stop with")]
        groups = json.loads(file.read_text())
        metrics = {"triton": "nv_", "supervisor": "ssd_probe", "gateway": "envoy_"}
        for group in groups:
            with urlopen(f"http://{group['targets'][0]}/metrics", timeout=20) as answer:
                assert f"# TYPE {metrics[group['labels']['job']]}" in answer.read().decode()
        find_triton(process.pid).kill()
        told += [json.loads(line) for line in read_until(process, "{", "starting it again")]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == ("", 0)
    assert len(groups) == 5
    assert not file.exists()
    assert told[0]["message"].startswith("starting 2 servers over")
    assert told[-1]["server"] in ("1", "2")
    assert (told[-1]["message"], told[-1]["level"], told[-1]["version"]) == (
        "tritonserver was ended by signal 9: starting it again",
        "warning",
        {"ensemble": 1},
    )
    assert json.loads(rest.splitlines()[-1])["message"] == "stopped"


def find_triton(pid: int) -> psutil.Process:
    """A tritonserver that a process has started."""
    found = psutil.Process(pid).children()
    return next(each for each in found if each.name().startswith("tritonserver"))


@pytest.mark.parametrize("option", ["--prometheus-targets", "--servers-file"])
def test_lists_that_cannot_be_written(option: str, tmp_path: Path) -> None:
    errors = fail("fleet", *FREE, f"{option}={tmp_path}/none/list", folder=tmp_path)
    there = "there is no such folder, make it"
    assert errors == f"error: {tmp_path}/none/list cannot be written: {there}\n"


def test_its_log_on_standard_output_and_its_end(servers: Path) -> None:
    command = ["gateway", str(servers), *FREE, "--access-log=-"]
    with running(*command, folder=servers.parent) as process:
        ready = read_until(process, "ready")[-1]
        port = int(re.findall(r"127\.0\.0\.1:(\d+) takes gRPC and HTTP;", ready)[0])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /v2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert b" 200 " in client.recv(1000)
        assert '"path":"/v2"' in read_until(process, "{")[-1]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    assert (rest, errors, process.returncode) == ("stopped\n", "", 0)
    assert list(servers.parent.glob("ssd-on-triton*")) == []


def test_what_a_killed_one_leaves_goes_with_the_next(servers: Path) -> None:
    folder = Path(tempfile.gettempdir())  # as everybody else's here, who may clean up just now
    with running("gateway", str(servers), *FREE, folder=folder) as process:
        read_until(process, "ready")
        (envoy,) = psutil.Process(process.pid).children()
        left = Path(envoy.cmdline()[2]).parent
        assert left.is_dir()
        process.kill()
        process.wait(60)
    wait_until(lambda: not envoy.is_running())
    with running("gateway", str(servers), *FREE, folder=folder) as process:
        read_until(process, "ready")
        assert not left.exists()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_the_list_of_servers_is_followed(servers: Path, recorder: Recorder) -> None:
    with running("gateway", str(servers), *FREE, folder=servers.parent) as process:
        read_until(process, "ready")
        text = servers.read_text()
        servers.write_text("nonsense")
        told = read_until(process, str(servers))[-1]
        assert re.search("line 1: expected the addresses .*; what held before still holds", told)
        servers.write_text(f"# again\n{text}")
        assert read_until(process, str(servers))[-1] == f"{servers} changed, and is taken"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_the_admin_key_may_stand_in_a_file(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_ADMIN_KEY", raising=False)
    monkeypatch.setenv("TRITON_ADMIN_KEY_FILE", str(tmp_path / "key"))
    (tmp_path / "key").write_text("k" * 32 + "\n")
    assert Fleet(FleetSettings(repository=str(tiny_repository))).admin_key == "k" * 32
