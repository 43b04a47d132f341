"""Servers and gateways as processes of their own, on one machine or on several that are played.

A machine that is played is a network namespace with a link to a bridge. It needs root.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import boto3
import psutil
from botocore.exceptions import EndpointConnectionError
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import ROOT
from client import Detector
from client.errors import DetectorError
from serving.server import shared_memory
from serving.server.prerequisites import choose_ports

SERVERS = 3
BRIDGE, SUBNET = "ssdtest0", "10.77.0"
KEY = "k" * 32
BUCKET, PREFIX = "fleet", "models"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
EXIT_SECONDS = 60.0
HEALTHY = "envoy_cluster_membership_healthy"


class Process:
    """One command on one machine, and its log."""

    def __init__(self, name: str, address: str, command: list[str], log: Path) -> None:
        self.name, self.address = name, address
        self._command, self._log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | CREDENTIALS
            )

    def kill(self) -> None:
        """With everything that it has started, as a power cut would."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.pid)
            for process in [own, *own.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._wait()

    def end(self) -> None:
        """By SIGTERM, and wait."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self._wait()

    @property
    def is_started(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def triton(self) -> psutil.Process:
        """Its tritonserver, once it runs."""
        deadline = time.monotonic() + EXIT_SECONDS
        while time.monotonic() < deadline:
            with suppress(psutil.NoSuchProcess):
                for child in self.children():
                    if child.name().startswith("tritonserver"):
                        return child
            time.sleep(0.05)
        raise TimeoutError(f"{self.name} has no tritonserver, see {self._log}")

    def stubs(self) -> list[psutil.Process]:
        """The processes of its Python models."""
        deadline = time.monotonic() + EXIT_SECONDS
        while time.monotonic() < deadline:
            with suppress(psutil.NoSuchProcess):
                below = self.triton().children(recursive=True)
                if found := [each for each in below if "stub" in each.name()]:
                    return found
            time.sleep(0.05)
        raise TimeoutError(f"{self.name} has no stubs, see {self._log}")

    def _wait(self) -> None:
        assert self._process
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Hosts:
    """All of them, as long as the context lasts.

    Args:
        folder: for logs, the list of servers, and the model repository.
        machines: each in a network namespace, with the repository in a store of the S3 protocol and
            with two gateways; else one gateway on loopback, and a folder.
        check: whether the gateway checks servers; if not, each passes for ever.
    """

    def __init__(self, folder: Path, machines: bool, check: bool) -> None:
        self.machines = machines
        self._folder = folder
        self._names = ["store", *[f"server{n + 1}" for n in range(SERVERS)], "gateway1", "gateway2"]
        self._ports: dict[str, int] = {}
        self._store: Process | None = None
        if not machines:
            self._choose_ports()
        self.repository = (
            f"s3://{SUBNET}.1:9000/{BUCKET}/{PREFIX}" if machines else str(folder / "models")
        )
        if not machines:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "model_repository", folder / "models", ignore=ignore)
        self.servers = [self._server(f"server{n + 1}", self.repository) for n in range(SERVERS)]
        self.grpc_urls = [self._at(server.name, "grpc") for server in self.servers]
        lines = [f"{self._at(s.name, 'grpc')} {self._at(s.name, 'http')}" for s in self.servers]
        (folder / "servers.txt").write_text("\n".join(lines) + "\n")
        seconds = "1" if check else "86400"
        self.gateways = [
            self._gateway(name, seconds) for name in self._names[-2:] if machines or name[-1] == "1"
        ]
        self.urls = [self._at(gateway.name, "port") for gateway in self.gateways]

    def __enter__(self) -> "Hosts":
        try:
            if self.machines:
                self._make_namespaces()
                self._start_store()
            for server in self.servers:
                server.start()
            for server in self.servers:
                self._wait_for(self._at(server.name, "grpc"))
            for gateway in self.gateways:
                gateway.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.gateways, *self.servers, *filter(None, [self._store])]:
            if process.is_started:
                process.end()
        if self.machines:
            self._remove_namespaces()

    def wait_until_healthy(self, seconds: float) -> None:
        """Until each gateway finds each server healthy."""
        deadline = time.monotonic() + seconds
        while not all(self._healthy(gateway) == SERVERS for gateway in self.gateways):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all servers are healthy; see the logs in {self._folder}")
            time.sleep(0.1)

    def set_link(self, name: str, up: bool) -> None:
        """Cut the link of a machine to the others, or join it again."""
        _ip("link", "set", f"v-{name}", "up" if up else "down")

    def left_behind(self) -> list[str]:
        """Shared memory of servers that are dead, and ports that are still listened on."""
        left = shared_memory.remove_leftovers()
        ours = set(self._ports.values())
        listening = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN"}
        return left + [f"port {port}" for port in sorted(ours & listening)]

    def _at(self, name: str, kind: str) -> str:
        if not self.machines:
            return f"127.0.0.1:{self._ports[f'{name} {kind}']}"
        standard = {"grpc": 8001, "http": 8000, "port": 8001, "metrics": 8002, "supervisor": 8003}
        return f"{self._address(name)}:{standard[kind]}"

    def _address(self, name: str) -> str:
        return f"{SUBNET}.{self._names.index(name) + 1}" if self.machines else "127.0.0.1"

    def _port(self, name: str, kind: str) -> str:
        return self._at(name, kind).rpartition(":")[2]

    def _choose_ports(self) -> None:
        kinds = {
            "server": ("grpc", "http", "metrics", "supervisor"),
            "gateway": ("port", "metrics"),
        }
        wanted = [f"{n} {k}" for n in self._names[1:] for k in kinds[n[:-1]]]
        # Not from where the kernel takes the clients' own: one might be lost in a restart.
        first = random.randrange(20_000, 30_000, 20)
        places = {name: ("127.0.0.1", first + n) for n, name in enumerate(wanted)}
        self._ports = choose_ports(places)

    def _server(self, name: str, repository: str) -> Process:
        options = ["--repository", repository, "--watch", "--admin-key", KEY]
        for kind in ("grpc", "http", "metrics", "supervisor"):
            options += [f"--{kind}-port", self._port(name, kind)]
        for kind in ("grpc", "http"):
            options += [f"--{kind}-address", self._address(name)]
        return self._process(name, ["-m", "serving", "up", *options])

    def _gateway(self, name: str, check_seconds: str) -> Process:
        options = [str(self._folder / "servers.txt"), "--check-seconds", check_seconds]
        options += ["--address", self._address(name), "--port", self._port(name, "port")]
        options += ["--gateway-metrics-port", self._port(name, "metrics")]
        return self._process(name, ["-m", "serving", "gateway", *options])

    def _process(self, name: str, arguments: list[str]) -> Process:
        inside = ["ip", "netns", "exec", f"n-{name}"] if self.machines else []
        command = [*inside, sys.executable, *arguments]
        return Process(name, self._address(name), command, self._folder / f"{name}.log")

    def _healthy(self, gateway: Process) -> int:
        """How many servers its metrics count as healthy; they are on its own loopback."""
        inside = ["ip", "netns", "exec", f"n-{gateway.name}"] if self.machines else []
        url = f"http://127.0.0.1:{self._port(gateway.name, 'metrics')}/metrics"
        code = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=2).read().decode())"
        done = subprocess.run(
            [*inside, sys.executable, "-I", "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
        families = text_string_to_metric_families(done.stdout)
        samples = (each for family in families for each in family.samples if each.name == HEALTHY)
        return sum(int(s.value) for s in samples if s.labels["envoy_cluster_name"] == "triton_grpc")

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + 180
        with Detector(url, retries=0, timeout=10) as detector:
            while time.monotonic() < deadline:
                with suppress(DetectorError):
                    detector.detect(ROOT / "samples" / "smear-1.jpg")
                    return
                time.sleep(0.5)
        raise TimeoutError(f"{url} does not answer; see the logs in {self._folder}")

    def _make_namespaces(self) -> None:
        self._remove_namespaces()
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{SUBNET}.254/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for name in self._names:
            space, link = f"n-{name}", f"v-{name}"
            _ip("netns", "add", space)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", link, "master", BRIDGE, "up")
            _ip("-n", space, "addr", "add", f"{self._address(name)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def _remove_namespaces(self) -> None:
        for name in self._names:
            _ip("link", "del", f"v-{name}", check=False)
            _ip("netns", "del", f"n-{name}", check=False)
        _ip("link", "del", BRIDGE, check=False)

    def _start_store(self) -> None:
        """A server of the S3 protocol with the repository in it."""
        code = (
            "from moto.server import ThreadedMotoServer as S; import time; "
            f"S(ip_address='{SUBNET}.1', port=9000).start(); time.sleep(10**6)"
        )
        self._store = self._process("store", ["-c", code])
        self._store.start()
        os.environ.update(CREDENTIALS)
        address = f"{SUBNET}.1:9000"
        client = boto3.client("s3", endpoint_url=f"http://{address}")
        deadline = time.monotonic() + EXIT_SECONDS
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                break
            except EndpointConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        for path in (ROOT / "model_repository").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(ROOT / "model_repository")
                client.upload_file(str(path), BUCKET, f"{PREFIX}/{name}")
        client.close()


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)
