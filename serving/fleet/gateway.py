"""The gateway: an Envoy that is kept running in front of servers."""

import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from serving.backoff import Backoff
from serving.errors import ServingError, StartError
from serving.fleet.configuration import (
    BOOTSTRAP,
    ROUTES,
    GatewaySettings,
    Server,
    render_bootstrap,
    render_endpoints,
    render_routes,
)
from serving.fleet.envoy import EnvoyProcess, find_envoy, validate
from serving.server.prerequisites import choose_ports
from serving.server.server import reachable
from serving.server.settings import LOOPBACK

TICK = 0.1  # seconds between two looks at Envoy
START_SECONDS = 20.0
LONGEST_PAUSE = 10.0  # seconds between two starts


class Gateway:
    """Envoy, as long as the context lasts.

    Entering returns once it has found a server healthy. It is started again when it dies.

    Args:
        settings: how it runs.
        servers: those in front of which it stands; `set_servers` changes them.
        report: takes a line for each thing worth knowing that happens while it runs.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        servers: Sequence[Server],
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings = settings
        self._servers = list(servers)
        self._report = report
        self._folder = Path()
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._failure: Exception | None = None
        self._envoy: EnvoyProcess | None = None
        self._thread = threading.Thread(target=self._supervise, name="gateway", daemon=True)

    def __enter__(self) -> "Gateway":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Host and port, of gRPC and HTTP alike."""
        return f"{reachable(self.settings.address)}:{self.settings.port}"

    @property
    def metrics_url(self) -> str:
        """Host and port of /metrics."""
        return f"{LOOPBACK}:{self.settings.gateway_metrics_port}"

    @property
    def envoy(self) -> EnvoyProcess:
        """The process of the moment."""
        if self._envoy is None:
            raise ServingError("the gateway was not started")
        return self._envoy

    def start(self) -> None:
        """Start, and wait until a server passes its check.

        Raises:
            PrerequisiteError: Envoy is missing, or a port is in use.
            StartError: Envoy refuses the configuration, or finds no server healthy.
        """
        program = find_envoy()
        s = self.settings
        places = {
            "--port": (s.address, s.port),
            "--gateway-metrics-port": (LOOPBACK, s.gateway_metrics_port),
        }
        ports = choose_ports(places)
        self.settings = replace(
            s, port=ports["--port"], gateway_metrics_port=ports["--gateway-metrics-port"]
        )
        self._folder = Path(tempfile.mkdtemp(prefix="ssd-on-triton-gateway-"))
        try:
            self._write(
                BOOTSTRAP, render_bootstrap(self.settings, self._folder, len(self._servers))
            )
            self._write(ROUTES, render_routes(self.settings))
            self.set_servers(self._servers)
            validate(program, self._folder / BOOTSTRAP)
            self._thread.start()
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def set_servers(self, servers: Sequence[Server]) -> None:
        """Stand in front of these from now on; requests under way elsewhere are finished."""
        self._servers = list(servers)
        for name, text in render_endpoints(servers).items():
            self._write(name, text)

    def healthy(self) -> set[str]:
        """The gRPC addresses of the servers that passed their last check."""
        with suppress(json.JSONDecodeError):
            clusters = json.loads(self.envoy.ask("/clusters?format=json"))["cluster_statuses"]
            hosts = [h for c in clusters if c["name"] == "triton_grpc" for h in c["host_statuses"]]
            return {
                "{address}:{port_value}".format(**host["address"]["socket_address"])
                for host in hosts
                if host["health_status"].get("eds_health_status") == "HEALTHY"
                and not host["health_status"].get("failed_active_health_check")
            }
        return set()

    def stop(self, drain_seconds: float = 0.0, hurry: Callable[[], bool] = lambda: False) -> None:
        """Refuse new connections, let requests in flight finish for so long, and end.

        Args:
            drain_seconds: how long that may take.
            hurry: whether it shall end without waiting any longer.
        """
        deadline = time.monotonic() + drain_seconds
        if self._envoy and drain_seconds:
            self._envoy.ask("/drain_listeners?graceful&skip_exit", "POST")
            while self._under_way() and time.monotonic() < deadline and not hurry():
                time.sleep(TICK)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _under_way(self) -> int:
        """Requests that are not answered yet."""
        told = self.envoy.ask("/stats?filter=^http.gateway.downstream_rq_active$")
        return int(told.rpartition(":")[2] or 0)

    def _write(self, name: str, text: str) -> None:
        """By a rename, which is what Envoy watches for."""
        new = self._folder / f".{name}"
        new.write_text(text, encoding="utf-8")
        new.rename(self._folder / name)

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (self._started.is_set() and self.healthy() and self._listens()):
            if self._failure:
                raise self._failure
            if time.monotonic() > deadline:
                names = ", ".join(str(server.grpc) for server in self._servers)
                raise StartError(
                    f"none of {names} answered an inference through {self.settings.model} within "
                    f"{START_SECONDS:.0f} s: see whether they run, and their ports"
                )
            time.sleep(TICK)

    def _listens(self) -> bool:
        """Whether the port takes connections, which it does only after the first checks."""
        place = (reachable(self.settings.address), self.settings.port)
        with suppress(OSError), socket.create_connection(place, START_SECONDS):
            return True
        return False

    def _supervise(self) -> None:
        """Keep Envoy running, in a thread of its own, with which Envoy ends."""
        pauses = Backoff(LONGEST_PAUSE)
        program = find_envoy()
        while not self._stopping.is_set():
            self._envoy = EnvoyProcess(program, self._folder)
            began = time.monotonic()
            self._started.set()
            while not self._stopping.wait(TICK) and self._envoy.exit_code() is None:
                pass
            if self._stopping.is_set():
                break
            reason = self._envoy.explain_exit()
            if time.monotonic() - began > LONGEST_PAUSE:
                pauses.reset()
            self._report(f"{reason}: starting it again")
            self._stopping.wait(pauses.pause())
        if self._envoy:
            self._envoy.stop()
