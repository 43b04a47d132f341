"""`serving fleet` and `serving gateway`: several servers behind one address."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from serving.control import find_admin_key
from serving.errors import PrerequisiteError, ServingError
from serving.fleet.checks import check_settings
from serving.fleet.configuration import File, GatewaySettings, Server, write_files
from serving.fleet.gateway import Gateway
from serving.fleet.servers import format_servers, parse_address, read_servers
from serving.fleet.targets import format_targets
from serving.lines import Line, LogFormat, write_line
from serving.server.plan import Report
from serving.server.server import EmbeddedServer, ServerSettings
from serving.server.up import Signals, wait_until

POLL = 0.1  # seconds between two looks for signals


@dataclass(frozen=True)
class FleetSettings(GatewaySettings):
    """Run several servers over one repository here, behind one address, until Ctrl-C."""

    repository: str = "model_repository"
    """Model repository: a folder, or an address such as s3://bucket/models."""
    replicas: int = 2
    """How many servers."""
    servers_file: Path | None = None
    """Where to write their addresses, a line each: for `publish --url @FILE`."""
    model_config_name: str = ""
    """Variant of the configurations: a model that has configs/NAME.pbtxt runs with that."""
    admin_key: str = ""
    """Key of all servers for loading and unloading models; empty: TRITON_ADMIN_KEY, else what the
    file TRITON_ADMIN_KEY_FILE holds, else a generated one."""
    start_seconds: float = 120.0
    """How long the start may take, in seconds."""
    drain_seconds: float = 30.0
    """How long requests in flight may take at the end, in seconds."""
    prometheus_targets: File = None
    """Where to write what Prometheus shall ask for metrics (file_sd)."""
    log_format: LogFormat = "text"
    """How lines are written: text for people, json for programs, with level, version and trace."""


@dataclass(frozen=True)
class StandAloneSettings(GatewaySettings):
    """Run the gateway in front of servers that run elsewhere, until Ctrl-C."""

    servers: Annotated[Path, tyro.conf.Positional] = Path("servers.txt")
    """File of the servers, a line each: the gRPC address and the HTTP address. It may change."""
    drain_seconds: float = 30.0
    """How long requests in flight may take at the end, in seconds."""


class Fleet:
    """Servers over one repository and the gateway in front of them, as long as the context lasts.

    Args:
        settings: how they run.
        report: takes a line for each thing worth knowing that happens while they run.
    """

    def __init__(
        self, settings: FleetSettings, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.settings = settings
        self.admin_key = find_admin_key(settings.admin_key) or secrets.token_hex(16)
        one = ServerSettings(
            settings.repository,
            watch=True,  # one that a release did not reach catches up
            supervisor_port=0,
            model_config_name=settings.model_config_name,
            admin_key=self.admin_key,
            otlp_endpoint=settings.otlp_endpoint,
            start_seconds=settings.start_seconds,
            drain_seconds=settings.drain_seconds,
        )
        self.servers = [
            EmbeddedServer(one, partial(_report_server, report, number))
            for number in range(1, settings.replicas + 1)
        ]
        self._gateway: Gateway | None = None
        self._report = report

    def __enter__(self) -> "Fleet":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def gateway(self) -> Gateway:
        """What stands in front."""
        if self._gateway is None:
            raise ServingError("the fleet was not started")
        return self._gateway

    @property
    def url(self) -> str:
        """Host and port of the gateway, for gRPC and HTTP alike."""
        return self.gateway.url

    def addresses(self) -> list[Server]:
        """Where each server itself is reached."""
        return [
            Server(parse_address(each.grpc_url), parse_address(each.http_url))
            for each in self.servers
        ]

    def report(self, line: str) -> None:
        """Report a line of no server alone, with the live versions of the first one."""
        known = [server.metrics.live_versions() for server in self.servers[:1]]
        self._report(Line(line, version=dict(*known)))

    def start(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Start all servers, then the gateway. Returns whether they run: it may be given up.

        Raises:
            ServingError: one did not start. None is left.
        """
        check_settings(self.settings)  # before anything is started
        try:
            for server in self.servers:
                server.launch()
            while not all(server.is_ready for server in self.servers):
                for failure in filter(None, [server.failure for server in self.servers]):
                    raise failure
                if given_up():
                    return False
                time.sleep(POLL)
            gateway = Gateway(self.settings, self.addresses(), self.report)
            gateway.start()
            self._gateway = gateway
            return True
        except BaseException:
            self.stop()
            raise

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Let requests in flight finish, end the gateway, then the servers.

        Args:
            hurry: whether requests in flight shall be given up.
        """
        if self._gateway:
            self._gateway.stop(self.settings.drain_seconds, hurry)
        launched = [server for server in self.servers if server.is_launched]
        for server in launched:
            server.request_stop()
        for server in launched:
            server.stop()


def fleet(settings: FleetSettings) -> None:
    """Serve until a signal; a second one gives up requests in flight.

    Raises:
        ServingError: something could not start.
    """
    signals = Signals()
    for file in filter(None, [settings.servers_file, settings.prometheus_targets]):
        if not file.absolute().parent.is_dir():
            raise PrerequisiteError(f"{file} cannot be written: there is no such folder, make it")
    whole = Fleet(settings, partial(write_line, log_format=settings.log_format))
    say = whole.report
    say(f"starting {settings.replicas} servers over {settings.repository}")
    started = whole.start(lambda: signals.count > 0)
    try:
        if started:
            _write_lists(whole)
            _describe(whole, say)
            wait_until(lambda: signals.count > 0)
    finally:
        whole.stop(lambda: signals.count > 1)
        for file in filter(None, [settings.servers_file, settings.prometheus_targets]):
            file.unlink(missing_ok=True)
    say("stopped")


def gateway(settings: StandAloneSettings) -> None:
    """Stand in front of the servers of a file until a signal, and follow its changes.

    Raises:
        ServingError: it could not start.
    """
    signals = Signals()
    read = partial(read_servers, settings.servers)
    servers = read()
    write_line(f"starting the gateway in front of {len(servers)} servers")
    running = Gateway(settings, servers, write_line)
    running.follow([settings.servers], read, running.set_servers)
    running.start()
    try:
        write_line(f"ready: {running.describe()}; metrics {running.metrics_url}/metrics")
        wait_until(lambda: signals.count > 0)
    finally:
        running.stop(settings.drain_seconds, lambda: signals.count > 1)
    write_line("stopped")


def _write_lists(whole: Fleet) -> None:
    """Write where the servers are, for publishers and for Prometheus.

    Raises:
        PrerequisiteError: a file cannot be written.
    """
    settings, servers = whole.settings, whole.servers
    metrics = {
        "triton": [server.metrics_url for server in servers],
        "supervisor": [server.supervisor_url or "" for server in servers],
    }
    lists = {
        settings.servers_file: format_servers(whole.addresses()),
        settings.prometheus_targets: format_targets(metrics, whole.gateway.metrics_url),
    }
    for file, text in lists.items():
        try:
            if file:
                write_files(file.parent, {file.name: text})
        except OSError as error:
            raise PrerequisiteError(f"{file} cannot be written: {error.strerror}") from None


def _describe(whole: Fleet, say: Report) -> None:
    """Say what is served where."""
    settings = whole.settings
    addresses = whole.addresses()
    say(f"ready: {whole.gateway.describe()}")
    say(f"  metrics of the gateway  http://{whole.gateway.metrics_url}/metrics")
    for number, (server, address) in enumerate(zip(whole.servers, addresses, strict=True), 1):
        say(
            f"  server {number}: gRPC {address.grpc}, HTTP http://{address.http}, "
            f"metrics http://{server.metrics_url}/metrics and http://{server.supervisor_url}/metrics"
        )
    if not find_admin_key(settings.admin_key):
        say(f"  admin key for loading and unloading models: {whole.admin_key}")
    if settings.servers_file:
        say(f"  release to all of them with --url @{settings.servers_file}")
    say("stop with Ctrl-C or SIGTERM: requests in flight are finished first")


def _report_server(report: Report, number: int, line: str) -> None:
    known = Line(line, message=str(line), server=str(number))
    report(Line(f"server {number}: {known}", **known.facts))
