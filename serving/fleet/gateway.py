"""The gateway: an Envoy that is kept running in front of servers."""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from serving import lines
from serving.backoff import Backoff
from serving.errors import ServingError, StartError
from serving.fleet.certificates import Pair, read_authorities, read_pair
from serving.fleet.checks import check_servers, check_settings
from serving.fleet.configuration import (
    BOOTSTRAP,
    ROUTES,
    GatewaySettings,
    Server,
    render_bootstrap,
    render_certificate,
    render_client_ca,
    render_endpoints,
    render_routes,
    write_files,
)
from serving.fleet.envoy import EnvoyProcess, find_envoy, validate
from serving.fleet.followed import FollowedFiles
from serving.fleet.keys import read_keys
from serving.server.server import reachable
from serving.server.settings import LOOPBACK
from serving.server.shared_memory import Region, remove_leftovers

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
        self._region = Region()  # whose folder goes even after this process was killed
        self._followed: list[FollowedFiles] = []
        self._log_number = 0  # of the access log's file
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._ready = threading.Event()
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

    def describe(self) -> str:
        """What it takes where, and from whom, as a sentence."""
        s = self.settings
        tls = f" with TLS (grpcs://, https://{self.url})" if s.certificate else ""
        wants = ["a certificate"] * bool(s.client_ca) + ["an API key"] * bool(s.keys_file)
        return f"{self.url} takes gRPC and HTTP{tls}" + (
            f" from clients with {' and '.join(wants)}" if wants else ""
        )

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
            PrerequisiteError: Envoy is missing, a port is in use, a setting or a file is of no use.
            StartError: Envoy refuses the configuration, or finds no server healthy.
        """
        ports = check_settings(self.settings)
        self.settings = replace(
            self.settings,
            port=ports["--port"],
            gateway_metrics_port=ports["--gateway-metrics-port"],
        )
        remove_leftovers()
        self._region.claim()
        try:
            bootstrap = render_bootstrap(self.settings, self._folder, len(self._servers))
            self._write({BOOTSTRAP: bootstrap})
            self._set_keys({})
            self.set_servers(self._servers)
            self._follow_settings()
            for files in self._followed:
                files.begin()
            validate(find_envoy(), self._folder / BOOTSTRAP)
            self._thread.start()
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def set_servers(self, servers: Sequence[Server]) -> None:
        """Stand in front of these from now on; requests under way elsewhere are finished."""
        check_servers(servers)
        self._servers = list(servers)
        self._write(render_endpoints(servers))

    def follow(
        self, files: Sequence[Path], read: Callable[[], Any], take: Callable[[Any], None]
    ) -> None:
        """Let what these files say hold, from the start on and whenever they change.

        See FollowedFiles; to be called before the start.
        """
        self._followed.append(FollowedFiles(files, read, take))

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
        self._region.release()

    def _under_way(self) -> int:
        """Requests that are not answered yet."""
        told = self.envoy.ask("/stats?filter=^http.gateway.downstream_rq_active$")
        return int(told.rpartition(":")[2] or 0)

    @property
    def _folder(self) -> Path:
        return self._region.folder

    def _write(self, files: Mapping[str, str]) -> None:
        write_files(self._folder, files)

    def _follow_settings(self) -> None:
        """Follow the files that the settings name."""
        s = self.settings
        if s.keys_file:
            self.follow([s.keys_file], partial(read_keys, s.keys_file), self._set_keys)
        if s.certificate and s.key:
            pair = s.certificate, s.key
            self.follow(pair, partial(read_pair, *pair), self._set_certificate)
        if s.client_ca:
            self.follow([s.client_ca], partial(read_authorities, s.client_ca), self._set_client_ca)

    def _set_keys(self, keys: Mapping[str, str]) -> None:
        self._write({ROUTES: render_routes(self.settings, keys)})

    def _set_certificate(self, pair: Pair) -> None:
        self._write(render_certificate(pair.chain, pair.key))

    def _set_client_ca(self, authorities: str) -> None:
        self._write(render_client_ca(authorities))

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
        for why in self.envoy.refusals():  # which by now it has said
            raise StartError(f"Envoy refuses the gateway's configuration: {why}")
        self._ready.set()

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
                self._look_around(self._envoy)
            if self._stopping.is_set():
                break
            reason = self._envoy.explain_exit()
            if time.monotonic() - began > LONGEST_PAUSE:
                pauses.reset()
            if not self._ready.is_set():
                self._failure = StartError(f"{reason}, and took no request")
                return
            self._report(lines.warning(f"{reason}: starting it again"))
            self._stopping.wait(pauses.pause())
        if self._envoy:
            self._envoy.stop()

    def _look_around(self, envoy: EnvoyProcess) -> None:
        """Take what people have changed, tell what Envoy refuses, and see to its log."""
        told = [files.look() for files in self._followed]
        for why in envoy.refusals() if self._ready.is_set() else ():
            told.append(lines.error(f"Envoy refuses a change: {why}; what held before still holds"))
        for line in filter(None, told):
            self._report(line)
        if self.settings.access_log not in ("", "-"):
            self._reopen_log(envoy, Path(self.settings.access_log))

    def _reopen_log(self, envoy: EnvoyProcess, file: Path) -> None:
        """Have a log begun anew that was moved away."""
        number = file.stat().st_ino if file.exists() else 0
        if number == 0 or number != self._log_number:
            envoy.ask("/reopen_logs", "POST")
        self._log_number = number
