"""`serving up`: runs the embedded server in the foreground until a signal ends it."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tritonclient.utils import InferenceServerException

from serving.control import find_admin_key
from serving.cores import usable_cores
from serving.errors import first_line
from serving.lines import LogFormat, write_line
from serving.server.plan import Report
from serving.server.server import EmbeddedServer, ServerSettings, SlowStartError

POLL = 0.1  # seconds
SHIPPED_CORES = 2  # that the configurations without a variant suit
BETTER = "`python -m serving tune` finds better settings"


class Signals:
    """Counts the signals that end a program instead of dying of them."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._receive)

    def _receive(self, *_: object) -> None:
        self.count += 1


@dataclass(frozen=True)
class UpSettings(ServerSettings):
    """Run a real Triton server here, without Docker, until Ctrl-C.

    Arguments after -- go to tritonserver as they are.
    """

    repository: str = "model_repository"
    """Model repository: a folder, or an address such as s3://bucket/models."""
    http_port: int = 8000
    """Port of Triton's HTTP protocol; 0 chooses a free one."""
    grpc_port: int = 8001
    """Port of Triton's gRPC protocol; 0 chooses a free one."""
    metrics_port: int = 8002
    """Port of Triton's own Prometheus metrics; 0 chooses a free one."""
    supervisor_port: int = 8003
    """Port of the Prometheus metrics that Triton does not know: probes, restarts, releases; 0
    chooses a free one."""
    log_format: LogFormat = "text"
    """How lines are written: text for people, json for programs, with level, version and trace."""


def up(settings: UpSettings) -> None:
    """Serve until a signal; a second one gives up requests in flight.

    Raises:
        ServingError: it could not start, or ended although nobody asked.
    """
    signals = Signals()
    server = EmbeddedServer(settings, partial(write_line, log_format=settings.log_format))
    say = server.report
    server.launch()
    say(f"starting tritonserver over {settings.repository}" + _describe_log(server))
    wait_until(lambda: server.is_ready or server.has_ended or signals.count > 0)
    if server.is_ready:
        describe_server(server, say)
    wait_until(lambda: server.has_ended or signals.count > 0)
    if not server.has_ended:
        _drain_server(server, signals)
    server.stop()
    if isinstance(server.failure, SlowStartError):
        raise SlowStartError(f"{server.failure}: give it longer with --start-seconds")
    if server.failure:
        raise server.failure
    say("stopped")


def describe_server(server: EmbeddedServer, say: Report = write_line) -> None:
    """Say what is served where, now that a real inference has succeeded."""
    settings = server.settings
    try:
        with server.control() as control:
            models = ", ".join(dict.fromkeys(control.models("READY")))
    except InferenceServerException as error:  # it died just now, and is started again
        models = first_line(error)
    say(f"ready: a real inference through {', '.join(server.photo_models)} succeeded")
    say(f"  models   {models}")
    say(f"  gRPC     {server.grpc_url}")
    say(f"  HTTP     http://{server.http_url}")
    say(f"  metrics  http://{server.metrics_url}/metrics")
    if not find_admin_key(settings.admin_key):
        say(f"  admin key for loading and unloading models: {server.admin_key}")
    if server.supervisor_url:
        say(f"  metrics of probes, restarts, releases  http://{server.supervisor_url}/metrics")
    if settings.model_config_name:
        say(f"  variant  {settings.model_config_name}")
    elif (cores := usable_cores()) > SHIPPED_CORES:
        say(f"  the configurations suit {SHIPPED_CORES} cores, here are {cores}: {BETTER}")
    if settings.watch:
        say(f"  watching {settings.repository} for changes")
    say("stop with Ctrl-C or SIGTERM: requests in flight are finished first")


def _describe_log(server: EmbeddedServer) -> str:
    """Where the log goes, as the end of a sentence."""
    return f", its log: {server.log_file}" if server.log_file else ""


def _drain_server(server: EmbeddedServer, signals: Signals) -> None:
    """Drain; a further signal cuts that short."""
    server.report(f"stopping: requests in flight have up to {server.settings.drain_seconds:.0f} s")
    server.request_stop()
    wait_until(lambda: server.has_ended or signals.count > 1)
    server.request_stop()


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again: unlike a lock this lets signal handlers run at once."""
    while not condition():
        time.sleep(POLL)
