"""healthcheck.py: right about a healthy server, a dead one, and one that only looks healthy."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from typing import Protocol

import pytest

from tests.conftest import PROJECT

HEALTHCHECK = PROJECT / "deploy" / "docker" / "healthcheck.py"


class Stub(Protocol):
    """The process of a Python model."""

    pid: int
    instance: str


class Server(Protocol):
    """The `image_server` fixture."""

    key: str

    def url(self, protocol: str) -> str: ...
    def post(self, path: str, key: str | None = None) -> int: ...
    def stubs(self) -> Sequence[Stub]: ...


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of something that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def check(*arguments: str) -> tuple[int, str]:
    """Run the script with the system's own Python, without this environment's packages.

    Returns:
        Its exit code and the one line it printed.
    """
    command = [sys.executable, "-I", "-S", str(HEALTHCHECK), *arguments]
    proxy = {"http_proxy": "http://127.0.0.1:1"}  # Docker may hand one on; it must not matter
    done = subprocess.run(
        command, env=proxy, capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.removesuffix("\n")


def is_ready(address: str) -> bool:
    """What Triton's own readiness says."""
    connection = HTTPConnection(address, timeout=10)
    connection.request("GET", "/v2/health/ready")
    status = connection.getresponse().status
    connection.close()
    return status == 200


def test_a_healthy_server(image_server: Server) -> None:
    code, said = check(image_server.url("http"))
    assert (code, said.split(" ")[0]) == (0, "healthy:")
    assert "\n" not in said


def test_no_server(nobody: str) -> None:
    started = time.monotonic()
    code, said = check(nobody)
    assert code == 1
    assert said.startswith(f"unhealthy: ensemble at {nobody}: ")
    assert time.monotonic() - started < 3


def test_a_server_that_never_answers(mute: str) -> None:
    assert check(mute, "--timeout", "0.3") == (1, f"unhealthy: ensemble at {mute}: timed out")


def test_a_model_that_is_not_there(image_server: Server) -> None:
    code, said = check(image_server.url("http"), "--model", "missing")
    assert code == 1
    assert "status 404" in said or "status 400" in said
    assert "missing" in said


def test_wrong_usage() -> None:
    assert check("--timeout", "soon")[0] == 2


def test_a_dead_model_process_behind_a_green_light(image_server: Server) -> None:
    (stub,) = (s for s in image_server.stubs() if s.instance.startswith("preprocess"))
    os.kill(stub.pid, signal.SIGKILL)
    try:
        assert is_ready(image_server.url("http"))  # the reason why the check infers
        code, said = check(image_server.url("http"))
        assert code == 1
        assert "status 500" in said
    finally:
        for step in ("unload", "load"):  # the remedy of docs/docker.md
            path = f"/v2/repository/models/preprocess/{step}"
            assert image_server.post(path, image_server.key) == 200
            time.sleep(1)
    assert check(image_server.url("http"))[0] == 0
