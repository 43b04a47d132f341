"""The embedded server: a genuine tritonserver as a child process, from start to a clean end."""

import os
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
    StoreError,
)
from serving.history import check_served_networks
from serving.otlp import make_trace_options, parse_receiver
from serving.server import log, shared_memory, tritonserver
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
LOG_LIMIT = 2**24  # bytes, beyond which a new start begins the log anew


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
        self._store = open_store(settings.repository)
        self._watch = Watch(self._store, settings.model_config_name) if settings.watch else None
        self.admin_key = find_admin_key(settings.admin_key) or secrets.token_hex(16)
        self._ports: dict[str, int] = {}
        self._region = shared_memory.Region()
        self._source: Source | None = None  # of the repository, for tritonserver
        self._log_begin = 0  # of the last start's part
        self._supervisor = Supervisor(self._plan(), self._tell)
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
        """Host and port of /metrics."""
        return f"{LOOPBACK}:{self._ports['--metrics-port']}"

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
            self._region.claim()
            self._source = open_source(self._store, self._region.folder, self._tell)
            tritonserver.assemble_backends(wheel, self._region.folder / "backends")
            tritonserver.make_stub_environment(self._region.folder / "stubs")
        except StoreError:
            self._release()
            raise
        except OSError as error:
            self._release()
            raise PrerequisiteError(f"{error.filename}: {error.strerror}") from None
        self._thread.start()

    def _release(self) -> None:
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
        return {
            "--http-port": (s.http_address, s.http_port),
            "--grpc-port": (s.grpc_address, s.grpc_port),
            "--metrics-port": (LOOPBACK, s.metrics_port),
        }

    @property
    def _served(self) -> Source:
        """What tritonserver reads."""
        if self._source is None:
            raise ServingError("the server was not started")
        return self._source

    def _tell(self, line: str) -> None:
        self._report(self._in_own_names(line))

    def _explain(self) -> str:
        if self.log_file is None:
            return "see its log"
        return self._in_own_names(log.read_failure(self.log_file, self._log_begin))

    def _in_own_names(self, text: str) -> str:
        """What Triton says, with the repository called as its owner calls it."""
        return text.replace(self._source.address, self._store.address) if self._source else text

    def _plan(self) -> Plan:
        s = self.settings
        return Plan(
            launch=self._launch,
            connect=self.control,
            explain=self._explain,
            failed=lambda: log.read_failed(self.log_file, self._log_begin),
            region=self._region,
            prepare=lambda: self._served.prepare(),
            release=self._release,
            watch=self._watch,
            start_seconds=s.start_seconds,
            drain_seconds=s.drain_seconds,
            probe_seconds=s.probe_seconds,
        )

    def _launch(self) -> TritonProcess:
        wheel = tritonserver.find_wheel()
        files = self._served.files()
        models = choose_models(self._store.address, files, self._report)
        if self._watch:
            self._watch.begin(files)
        command = [str(wheel.executable), *self._options(models)]
        environment = self._served.environment(
            tritonserver.environment(wheel, self._region.folder / "stubs")
        )
        if self.log_file is None:
            return TritonProcess(command, environment, self._region.prefix, log=None)
        with self.log_file.open("ab") as file:
            if file.tell() > LOG_LIMIT:
                file.truncate(0)
            self._log_begin = file.seek(0, os.SEEK_END)
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
            f"--metrics-address={LOOPBACK}",
            *(f"{option}={port}" for option, port in self._ports.items()),
            f"--grpc-restricted-protocol={RESTRICTED}:admin-key={self.admin_key}",
            f"--http-restricted-api={RESTRICTED}:admin-key={self.admin_key}",
            *([f"--model-config-name={s.model_config_name}"] if s.model_config_name else []),
            *(make_trace_options(s.otlp_endpoint, self.grpc_url) if s.otlp_endpoint else []),
            *s.arguments,
        ]


def reachable(address: str) -> str:
    """Where this machine itself reaches what listens on an address."""
    return LOOPBACK if address in ("0.0.0.0", "::", "localhost") else address
