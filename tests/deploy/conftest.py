"""What the tests of images and of the chart share: a server started by the image's own script."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection

import pytest

from serving.server.prerequisites import check_machine, choose_ports
from serving.server.process import Stub, find_stubs
from serving.server.shared_memory import Region
from serving.server.tritonserver import (
    Wheel,
    assemble_backends,
    environment,
    make_stub_environment,
)
from tests.conftest import PROJECT, wait_until

KEY = "a-key-for-the-tests-only"


@dataclass(frozen=True)
class ImageServer:
    """A running server and where it listens."""

    process: subprocess.Popen[bytes]
    region: Region  # its part of /dev/shm
    ports: dict[str, int]  # by protocol: http, grpc, metrics
    key: str = KEY

    def url(self, protocol: str) -> str:
        return f"127.0.0.1:{self.ports[protocol]}"

    def post(self, path: str, key: str | None = None) -> int:
        """The status of a POST without a body, as `curl -X POST` would send it."""
        return request(self.url("http"), "POST", path, {"admin-key": key} if key else {})[0]

    def stubs(self) -> list[Stub]:
        """The living processes of its Python models."""
        return find_stubs(self.region.prefix)

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.region.folder / "log").read_text()


def request(url: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and text of an HTTP answer."""
    connection = HTTPConnection(url, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="session")
def image_server() -> Iterator[ImageServer]:
    """serve.sh as the image runs it, over the shipped repository, with the wheel's tritonserver.

    Added to its options is only what must differ outside a container: where the backends lie,
    free ports, loopback, names of its own in /dev/shm; and a shorter wait at the end, which a
    server that has lost a model process uses up.
    """
    wheel = check_machine()
    region = Region()
    region.claim()
    try:
        ports = choose_ports(dict.fromkeys(("http", "grpc", "metrics"), ("127.0.0.1", 0)))
        running = ImageServer(start(wheel, region, ports), region, ports)
        try:
            wait_until_ready(running)
            yield running
        finally:
            running.process.terminate()
            running.process.communicate(timeout=60)
    finally:
        region.release()


def start(wheel: Wheel, region: Region, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    """Run serve.sh; its files go into the region's folder."""
    backends = assemble_backends(wheel, region.folder / "backends")
    variables = environment(wheel, make_stub_environment(region.folder / "stubs"))
    variables["PATH"] += f"{os.pathsep}{wheel.executable.parent}"
    variables["TRITON_ADMIN_KEY"] = KEY
    variables["TRITON_MODEL_REPOSITORY"] = str(PROJECT / "model_repository")
    command = [
        "sh",
        str(PROJECT / "deploy" / "docker" / "serve.sh"),
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={region.prefix}",
        "--exit-timeout-secs=2",
        *(f"--{protocol}-port={port}" for protocol, port in ports.items()),
        *(f"--{protocol}-address=127.0.0.1" for protocol in ports),
    ]
    with (region.folder / "log").open("wb") as log:
        pipe = subprocess.PIPE  # of which the stubs ask for an end: serving/server/stub_start.py
        return subprocess.Popen(command, env=variables, stdin=pipe, stdout=log, stderr=log)


def wait_until_ready(server: ImageServer) -> None:
    """Wait until all models are loaded; fail with the server's log if that does not come."""

    def is_ready() -> bool:
        return request(server.url("http"), "GET", "/v2/health/ready", {})[0] == 200

    has_ended = server.process.poll
    wait_until(lambda: has_ended() is not None or is_ready(), retry=ConnectionError)
    assert has_ended() is None, server.log
