"""`serving up` as people run it: a process, its lines, its signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import MagicMock
from urllib.request import urlopen

import pytest
from tritonclient.utils import InferenceServerException

from serving.server import shared_memory
from serving.server import up as module
from serving.server.prerequisites import choose_ports
from serving.server.process import find_stubs
from serving.server.server import ServerSettings
from serving.server.up import describe_server
from tests.conftest import wait_until

PORTS = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "supervisor")]
UP = [sys.executable, "-m", "serving", "up", *PORTS]
QUICK = ["--", "--disable-auto-complete-config"]


@contextmanager
def running(*options: str) -> Iterator[subprocess.Popen[str]]:
    """The command, killed at the latest when the test ends."""
    with subprocess.Popen(
        [*UP, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], start: str, holds: str = "") -> list[str]:
    """The lines up to the one that starts so, and holds something."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith(start) and holds in line:
            return lines
    raise AssertionError(f"no line starts with {start!r}: {lines} {process.communicate()[1]}")


def prefix_of(lines: list[str]) -> str:
    """The prefix of the server's shared memory, which its log's folder bears too."""
    found = re.search(r"/(ssd-on-triton-[0-9a-f]+-)", lines[0])
    assert found
    return found[1]


def test_lines_and_sigterm(project_repository: Path) -> None:
    with running(f"--repository={project_repository}", *QUICK) as process:
        lines = read_until(process, "stop with")
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    assert lines[0].startswith(f"starting tritonserver over {project_repository}, its log: ")
    assert lines[1] == "ready: a real inference through ensemble succeeded"
    assert re.fullmatch(r"  models   ensemble, postprocess, preprocess, ssd", lines[2])
    assert re.fullmatch(r"  gRPC     127\.0\.0\.1:\d+", lines[3])
    assert re.fullmatch(r"  HTTP     http://127\.0\.0\.1:\d+", lines[4])
    assert re.fullmatch(r"  metrics  http://127\.0\.0\.1:\d+/metrics", lines[5])
    assert re.fullmatch(r"  admin key .*: [0-9a-f]{32}", lines[6])
    assert re.fullmatch(r"  metrics of probes.*  http://127\.0\.0\.1:\d+/metrics", lines[7])
    assert rest.splitlines() == ["stopping: requests in flight have up to 30 s", "stopped"]
    assert (errors, process.returncode) == ("", 0)


def test_lines_as_json(tiny_repository: Path) -> None:
    options = [f"--repository={tiny_repository}", "--log-format=json", "--probe-seconds=0.5"]
    with running(*options, *QUICK) as process:
        told = [json.loads(line) for line in read_until(process, '{"time"', "stop with")]
        stub = next(s for s in find_stubs(prefix_of([told[0]["message"]])) if "ssd" in s.instance)
        stub.kill()
        told += [json.loads(line) for line in read_until(process, '{"time"', "works again after")]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    told += [json.loads(line) for line in rest.splitlines()]
    assert (errors, process.returncode) == ("", 0)
    assert {tuple(line) for line in told} == {("time", "level", "message", "version", "trace")}
    assert told[0]["version"] == {}
    assert {str(line["version"]) for line in told[1:]} == {"{'ensemble': 1}"}
    assert all(datetime.fromisoformat(line["time"]).tzinfo == UTC for line in told)
    by_message = {line["message"]: line for line in told}
    died = by_message["a process of model ssd died: loading it again"]
    assert (died["level"], died["trace"]) == ("warning", "")
    again = next(line for line in told if "works again after" in line["message"])
    assert again["level"] == "info"
    assert re.fullmatch("[0-9a-f]{32}", again["trace"])
    assert by_message["stopped"]["trace"] == ""


def test_an_error_as_json(tmp_path: Path) -> None:
    with running(f"--repository={tmp_path / 'none'}", "--log-format=json") as process:
        lines, errors = process.communicate(timeout=60)
    told = json.loads(errors)
    assert (lines, process.returncode) == ("", 1)
    assert told["level"] == "error"
    assert told["message"].startswith(f"model repository {tmp_path / 'none'} does not exist")


def test_a_port_for_its_own_metrics_that_is_taken(tiny_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        option = f"--supervisor-port={taken.getsockname()[1]}"
        with running(f"--repository={tiny_repository}", option) as process:
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: --supervisor-port \d+ cannot be used on 127\.0\.0\.1 \(Address already in use\): "
        r"stop what listens there or give another --supervisor-port\n",
        errors,
    )


def test_an_address_for_metrics_that_is_not_ours(tiny_repository: Path) -> None:
    options = [f"--repository={tiny_repository}", "--metrics-address=192.0.2.1"]
    with running(*options) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: --metrics-port 0 cannot be used on 192\.0\.2\.1 \(.*\): "
        r"give an address of this machine, or 0\.0\.0\.0 for all\n",
        errors,
    )


@pytest.mark.parametrize("way", ["option", "environment"])
def test_given_admin_key_is_not_shown(
    project_repository: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ["--admin-key=never-to-be-shown"] if way == "option" else []
    if not key:
        monkeypatch.setenv("TRITON_ADMIN_KEY", "never-to-be-shown")
    with running(f"--repository={project_repository}", *key, *QUICK) as process:
        read = read_until(process, "ready")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert "never-to-be-shown" not in "\n".join([*read, rest, errors])
    assert process.returncode == 0


def test_it_serves_though_its_lines_cannot_be_written(project_repository: Path) -> None:
    """As with a log on a disk that is full."""
    port = choose_ports({"--http-port": ("127.0.0.1", 0)})["--http-port"]
    options = [f"--repository={project_repository}", f"--http-port={port}", *QUICK]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen([*UP, *options], stdout=full, stderr=subprocess.DEVNULL) as process,
    ):
        wait_until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)


def answers(port: int) -> bool:
    """Whether Triton is ready there."""
    try:
        return bool(urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2).status == 200)
    except OSError:
        return False


def test_failed_start_is_one_short_message(repository: Path) -> None:
    (repository / "ssd" / "1" / "model.onnx").write_bytes(b"junk")
    with running(f"--repository={repository}", *QUICK) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: tritonserver did not start:\nmodel ssd: ")
    assert len(errors.splitlines()) <= 4


def test_a_start_that_takes_too_long_says_how_to_wait_longer(project_repository: Path) -> None:
    with running(f"--repository={project_repository}", "--start-seconds=0.01") as process:
        _, errors = process.communicate(timeout=120)
    told = "error: tritonserver was not ready after 0 s: give it longer with --start-seconds\n"
    assert (errors, process.returncode) == (told, 1)


def test_variant_that_no_model_has(project_repository: Path) -> None:
    with running(f"--repository={project_repository}", "--model-config-name=tund") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no variant 'tund': no model has configs/tund.pbtxt, there is gpu (of ssd)" in errors


@pytest.mark.parametrize(
    ("variant", "cores", "expected"),
    [
        ("", 2, ""),
        ("", 16, "the configurations suit 2 cores, here are 16: `python -m serving tune` finds"),
        ("tuned", 16, "variant  tuned"),
    ],
)
def test_settings_for_this_machine(
    variant: str,
    cores: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    server = MagicMock(settings=ServerSettings("models", model_config_name=variant))
    describe_server(server)
    told = capsys.readouterr().out
    assert expected in told
    assert ("serving tune" in told) == (cores > 2 and not variant)


def test_a_server_that_dies_while_it_is_described_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = MagicMock(settings=ServerSettings("models"))
    control = server.control.return_value.__enter__.return_value
    server.control.return_value.__exit__.return_value = False
    control.models.side_effect = InferenceServerException("connection refused")
    describe_server(server)
    assert "  models   connection refused" in capsys.readouterr().out


def test_killed_up_leaves_no_process_and_the_next_start_cleans_up(
    project_repository: Path,
) -> None:
    with running(f"--repository={project_repository}", *QUICK) as process:
        prefix = prefix_of(read_until(process, "ready"))
        assert find_stubs(prefix)
        process.kill()
    end = time.monotonic() + 20
    while find_stubs(prefix) or servers(prefix):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.1)
    shared_memory.remove_leftovers()
    assert list(shared_memory.FOLDER.glob(f"{prefix}*")) == []
    assert list(Path("/tmp").glob(f"{prefix}*")) == []


def servers(prefix: str) -> list[int]:
    """Processes that were given the prefix on their command line."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and int(path.name) != os.getpid():
            try:
                text = (path / "cmdline").read_bytes()
            except OSError:
                continue
            found += [int(path.name)] if prefix.encode() in text else []
    return found
