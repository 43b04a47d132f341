"""The embedded server: a genuine tritonserver as a child process, from start to a clean end."""

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serving.control import Control, find_admin_key
from serving.errors import (
    PrerequisiteError,
    ServingError,
    SlowStartError,
    StartError,
)
from serving.history import check_served_networks
from serving.lines import Line
from serving.monitoring.service_metrics import ServiceMetrics
from serving.otlp import make_trace_options, parse_receiver
from serving.server import shared_memory, tritonserver
from serving.server.log import TritonLog
from serving.server.plan import Plan
from serving.server.prerequisites import (
    check_admin_key,
    check_machine,
    check_variant,
    choose_models,
    choose_ports,
)
from serving.server.process import TritonProcess
from serving.server.running import TRITON_EXIT_SECONDS
from serving.server.settings import LOOPBACK, ServerSettings
from serving.server.supervisor import Supervisor
from serving.server.watch import Watch
from serving.store.address import open_store
from serving.store.source import Source, open_source

__all__ = [
    "EmbeddedServer",
    "PrerequisiteError",
    "ServerSettings",
    "ServingError",
    "SlowStartError",
    "StartError",
]

RESTRICTED = "model-repository,shared-memory,trace,logging"
FIXED = ("--model-control-mode=explicit", f"--exit-timeout-secs={TRITON_EXIT_SECONDS}")
TRITON_PORTS = ("--http-port", "--grpc-port", "--metrics-port")


class EmbeddedServer:
    """A tritonserver that runs as long as the context.

    Entering returns once a real inference went through every ensemble that takes photos. While it
    runs, processes that die are replaced. Leaving lets requests in flight finish, ends the server
    and leaves nothing behind.

    Args:
        settings: how it runs.
        report: takes a line for each thing worth knowing that happens while it runs.
    """

    def __init__(
        self, settings: ServerSettings, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.settings = settings
        self._report = report
        self.metrics = ServiceMetrics(str(settings.repository))
        self.metrics.ask_store(self._is_store_away)
        self._store = open_store(settings.repository)
        self._watch = Watch(self._store, settings.model_config_name) if settings.watch else None
        self.admin_key = find_admin_key(settings.admin_key) or secrets.token_hex(16)
        self._ports: dict[str, int] = {}
        self._region = shared_memory.Region()
        self._source: Source | None = None  # of the repository, for tritonserver
        self._log = TritonLog()
        self._supervisor = Supervisor(self._plan(), self.report)
        self._thread = threading.Thread(target=self._supervisor.run, name="triton", daemon=True)

    def __enter__(self) -> "EmbeddedServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def grpc_url(self) -> str:
        """Host and port for gRPC clients on this machine."""
        return f"{reachable(self.settings.grpc_address)}:{self._ports['--grpc-port']}"

    @property
    def http_url(self) -> str:
        """Host and port for HTTP clients on this machine."""
        return f"{reachable(self.settings.http_address)}:{self._ports['--http-port']}"

    @property
    def metrics_url(self) -> str:
        """Host and port of Triton's /metrics."""
        return f"{reachable(self.settings.metrics_address)}:{self._ports['--metrics-port']}"

    @property
    def supervisor_url(self) -> str | None:
        """Host and port of /metrics about what Triton does not know; None: nobody asked for it."""
        port = self._ports.get("--supervisor-port")
        return f"{reachable(self.settings.metrics_address)}:{port}" if port else None

    @property
    def log_file(self) -> Path | None:
        """Where tritonserver's log goes, None if it is shown. It goes with the server."""
        return None if self.settings.verbose else self._region.folder / "tritonserver.log"

    @property
    def process(self) -> TritonProcess:
        """The tritonserver of the moment."""
        return self._supervisor.process

    @property
    def photo_models(self) -> list[str]:
        """The ensembles that took the last round of real inferences."""
        return self._supervisor.probed

    @property
    def is_launched(self) -> bool:
        """Whether it was started."""
        return self._thread.ident is not None

    @property
    def is_ready(self) -> bool:
        """Whether the first real inference has succeeded."""
        return self._supervisor.ready.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether everything is over and cleaned up."""
        return self._supervisor.ended.is_set()

    @property
    def failure(self) -> ServingError | None:
        """Why it ended although nobody asked."""
        return self._supervisor.failure

    def start(self) -> None:
        """Start and wait for a real inference.

        Raises:
            PrerequisiteError: this machine or the settings do not allow it.
            StartError: tritonserver did not become ready.
        """
        self.launch()
        try:
            while not (self.is_ready or self.has_ended):
                time.sleep(0.02)
        except BaseException:  # Ctrl-C while waiting
            self.stop()
            raise
        if self.failure:
            raise self.failure

    def launch(self) -> None:
        """Check what is needed and start, without waiting.

        Raises:
            PrerequisiteError: this machine or the settings do not allow it.
            StoreError: the repository cannot be read, or holds a damaged network.
        """
        wheel = check_machine()
        files = self._store.files(hidden=True)
        choose_models(self._store.address, files)
        check_variant(self._store.address, files, self.settings.model_config_name)
        check_admin_key(self.admin_key)
        if self.settings.otlp_endpoint:
            parse_receiver(self.settings.otlp_endpoint)
        check_served_networks(self._store)
        self._ports = choose_ports(self._places())
        shared_memory.remove_leftovers()
        try:
            if port := self._ports.get("--supervisor-port"):
                self.metrics.open_port(self.settings.metrics_address, port)
            self._region.claim()
            self._source = open_source(self._store, self._region.folder, self.report)
            tritonserver.assemble_backends(wheel, self._region.folder / "backends")
            tritonserver.make_stub_environment(self._region.folder / "stubs")
        except ServingError:
            self._release()
            raise
        except OSError as error:
            self._release()
            raise PrerequisiteError(f"{error.filename}: {error.strerror}") from None
        self._thread.start()

    def _release(self) -> None:
        self.metrics.close_port()
        if self._source:
            self._source.close()
        self._region.release()

    def request_stop(self) -> None:
        """Begin to drain, without waiting. A second call ends without waiting for requests."""
        if self._supervisor.stopping.is_set():
            self._supervisor.hurry.set()
        self._supervisor.stopping.set()

    def stop(self) -> None:
        """Let requests in flight finish, end, and clean up."""
        self._supervisor.stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def control(self) -> Control:
        """A connection with the admin key. Close it after use."""
        return Control(self.grpc_url, self.admin_key)

    def _places(self) -> dict[str, tuple[str, int]]:
        s = self.settings
        places = {
            "--http-port": (s.http_address, s.http_port),
            "--grpc-port": (s.grpc_address, s.grpc_port),
            "--metrics-port": (s.metrics_address, s.metrics_port),
        }
        if s.supervisor_port is not None:
            places["--supervisor-port"] = s.metrics_address, s.supervisor_port
        return places

    @property
    def _served(self) -> Source:
        """What tritonserver reads."""
        if self._source is None:
            raise ServingError("the server was not started")
        return self._source

    def report(self, line: str) -> None:
        """Report a line, with the live versions that it is about."""
        known = Line(line, version=self.metrics.live_versions())
        self._report(Line(self._in_own_names(line), **known.facts))

    def _is_store_away(self) -> bool:
        away = bool(self._source and self._source.away)
        return away or bool(self._watch and self._watch.away)

    def _in_own_names(self, text: str) -> str:
        """What Triton says, with the repository called as its owner calls it."""
        return text.replace(self._source.address, self._store.address) if self._source else text

    def _plan(self) -> Plan:
        s = self.settings
        return Plan(
            launch=self._launch,
            connect=self.control,
            explain=lambda: self._in_own_names(self._log.explain()),
            failed=self._log.failed,
            failed_lately=self._log.failed_lately,
            region=self._region,
            prepare=lambda: self._served.prepare(),
            hurry=lambda: self._served.hurry(),
            release=self._release,
            watch=self._watch,
            metrics=self.metrics,
            start_seconds=s.start_seconds,
            drain_seconds=s.drain_seconds,
            probe_seconds=s.probe_seconds,
        )

    def _launch(self) -> TritonProcess:
        wheel = tritonserver.find_wheel()
        files = self._served.files()
        models = choose_models(self._store.address, files, self.report)
        if self._watch:
            self._watch.begin(files)
        command = [str(wheel.executable), *self._options(models)]
        environment = self._served.environment(
            tritonserver.environment(wheel, self._region.folder / "stubs")
        )
        if self.log_file is None:
            return TritonProcess(command, environment, self._region.prefix, log=None)
        with self._log.open_part(self.log_file) as file:
            return TritonProcess(command, environment, self._region.prefix, file)

    def _options(self, models: list[str]) -> list[str]:
        s = self.settings
        return [
            f"--model-repository={self._served.address}",
            *FIXED,
            *(f"--load-model={model}" for model in models),
            f"--backend-directory={self._region.folder / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._region.prefix}",
            f"--http-address={s.http_address}",
            f"--grpc-address={s.grpc_address}",
            f"--metrics-address={s.metrics_address}",
            *(f"{option}={self._ports[option]}" for option in TRITON_PORTS),
            f"--grpc-restricted-protocol={RESTRICTED}:admin-key={self.admin_key}",
            f"--http-restricted-api={RESTRICTED}:admin-key={self.admin_key}",
            *([f"--model-config-name={s.model_config_name}"] if s.model_config_name else []),
            *(make_trace_options(s.otlp_endpoint, self.grpc_url) if s.otlp_endpoint else []),
            *s.arguments,
        ]


def reachable(address: str) -> str:
    """Where this machine itself reaches what listens on an address."""
    return LOOPBACK if address in ("0.0.0.0", "::", "localhost") else address
