"""A fleet over a store that can go away, watched by a real Prometheus, and how to trouble it."""

import logging
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import boto3
from moto.server import ThreadedMotoServer

from benchmarks import ROOT
from benchmarks.load.steady import Steady
from benchmarks.measurement.hosts import CREDENTIALS
from benchmarks.monitoring.stack import Stack
from serving.fleet.fleet import Fleet, FleetSettings
from serving.fleet.targets import format_targets
from serving.server import supervisor
from serving.store import source
from serving.store.address import open_store

TARGETS = 5  # Triton and supervisor of two servers, and the gateway
TOO_MUCH = 1000  # photos a second
NEVER = 1e6  # seconds


class Store:
    """A server of S3's protocol that can go and come back; what it holds stays."""

    def __init__(self) -> None:
        self.port, bucket = 0, f"bucket-{uuid.uuid4().hex[:8]}"
        self.back()
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}")
        client.create_bucket(Bucket=bucket)
        client.close()
        self.address = f"s3://127.0.0.1:{self.port}/{bucket}/models"

    def back(self) -> None:
        """Listen, where it listened before."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def away(self) -> None:
        """Listen no more."""
        self._server.stop()


@dataclass(frozen=True)
class Watched:
    """A fleet, what its servers read, and who watches it.

    Attributes:
        photos: what is sent; none: a sample.
    """

    fleet: Fleet
    store: Store
    stack: Stack
    photos: Sequence[bytes] = ()

    @contextmanager
    def frozen_process(self) -> Iterator[None]:
        """The first server's process that decodes photos says nothing any more, until it is ended.

        Then its supervisor mends it. Would it go on, Triton would be started anew, which takes
        longer than a minute of the rules is here.
        """
        stubs = self.fleet.servers[0].process.stubs()
        [stub] = [each for each in stubs if each.instance.startswith("preprocess")]
        with freeze(stub.pid):
            yield
            stub.kill()

    def frozen_server(self) -> AbstractContextManager[None]:
        """The second tritonserver says nothing any more: its connections stay open."""
        return freeze(self.fleet.servers[1].process.pid)

    @contextmanager
    def store_away(self) -> Iterator[None]:
        """Nobody listens where the model repository is."""
        self.store.away()
        try:
            yield
        finally:
            self.store.back()

    def overload(self) -> AbstractContextManager[object]:
        """More interactive requests than there are places for."""
        return Steady([self.fleet.url], TOO_MUCH, self.photos)


@contextmanager
def freeze(pid: int) -> Iterator[None]:
    """Stop a process, and let it go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def watch_fleet(
    folder: Path, models: Path = ROOT / "model_repository", photos: Sequence[bytes] = ()
) -> Iterator[Watched]:
    """Two servers whose supervisors leave frozen processes alone: else those are mended in 5 s.

    Args:
        folder: for what Prometheus and Alertmanager keep.
        models: what is served.
        photos: what is sent; none: a sample.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    with (
        mock.patch.dict(os.environ, CREDENTIALS),
        mock.patch.object(supervisor, "FROZEN_SECONDS", NEVER),
        mock.patch.object(source, "STORE_SECONDS", 0.5),
    ):
        store = Store()
        try:
            open_store(store.address).create(models)
            settings = FleetSettings(port=0, repository=store.address)
            with Fleet(settings) as fleet:
                stack = Stack(folder)
                (stack.targets / "fleet.json").write_text(_list_targets(fleet))
                with stack:
                    _wait_for_targets(stack)
                    yield Watched(fleet, store, stack, photos)
        finally:
            store.away()


def _list_targets(fleet: Fleet) -> str:
    metrics = {
        "triton": [server.metrics_url for server in fleet.servers],
        "supervisor": [server.supervisor_url or "" for server in fleet.servers],
    }
    return format_targets(metrics, fleet.gateway.metrics_url)


def _wait_for_targets(stack: Stack) -> None:
    deadline = time.monotonic() + 60
    while len(found := stack.query("up == 1")) < TARGETS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Prometheus reaches {len(found)} of {TARGETS} targets")
        time.sleep(0.1)
