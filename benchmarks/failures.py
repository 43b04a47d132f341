"""What clients notice when servers of a fleet are killed, stopped, drained, frozen or cut off.

    python -m benchmarks.failures --output benchmarks/results/failures.json
    sudo .venv/bin/python -m benchmarks.failures --machines \\
        --output benchmarks/results/failures_machines.json

Three `serving up` and one `serving gateway` as processes, under a steady load of a share of the
capacity that was measured just before. No client tries anything twice. With --machines each server,
the gateways, the store and the clients have a network namespace of their own, joined by a bridge: a
link that is cut says nothing, as between real machines. There versions are published, too, while a
server is cut off, or one is cut off at a random moment of a release: in the end all must serve one
version, or the benchmark fails.
"""

import contextlib
import dataclasses
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.tiny_network import write_artifact
from benchmarks.load.steady import Steady, measure_capacity
from benchmarks.measurement.figures import show_figures
from benchmarks.measurement.hosts import KEY, Hosts
from serving.control import Control
from serving.errors import ServingError
from serving.fleet.configuration import CHECK_TIMEOUT
from serving.release.publish import PublishSettings, publish

Scenario = Callable[["Service", int], None]
RECOVERY_SECONDS = 120.0
SEEN_SECONDS = CHECK_TIMEOUT + 2  # after which the gateway has seen what froze


@dataclasses.dataclass(frozen=True)
class Settings:
    """Break a fleet in every way, one after the other, and count what clients notice."""

    machines: bool = False
    """Every part in a network namespace of its own; needs root."""
    share: float = 0.3
    """Of the capacity, that the load has."""
    check: bool = True
    """Leave it out to see what happens where the gateway checks nobody."""
    kills: int = 0
    """Instead: so many SIGKILLs at random moments, of servers, stubs, gateways and publishers."""
    away_seconds: float = 10.0
    """How long a link is cut; that of the store twelve times as long."""
    only: tuple[str, ...] = ()
    """Words in the names of the scenarios; none given: all."""
    seed: int = 0
    """Of the random moments."""
    output: Path | None = None
    """JSON file to write the figures to."""


class Service:
    """Three servers and their gateway, and what can be done to them."""

    def __init__(self, hosts: Hosts, settings: Settings) -> None:
        self.hosts, self.settings = hosts, settings
        self.refused: list[str] = []  # what was not published, and why
        self._random = random.Random(settings.seed)

    def kill(self, number: int) -> None:
        """A whole server, as by a power cut, and a new start."""
        self.hosts.servers[number].kill()
        self.hosts.servers[number].start()

    def end_tritonserver(self, number: int) -> None:
        """SIGTERM for tritonserver behind its supervisor's back."""
        self.hosts.servers[number].triton().terminate()

    def kill_stub(self, number: int) -> None:
        self.hosts.servers[number].stubs()[0].kill()

    def drain(self, number: int) -> None:
        """SIGTERM for `serving up`, as for an update of the machine, and a new start."""
        self.hosts.servers[number].end()
        self.hosts.servers[number].start()

    def freeze(self, number: int) -> None:
        """SIGSTOP for tritonserver: its connections stay open and say nothing."""
        self.hosts.servers[number].triton().suspend()

    def freeze_stub(self, number: int) -> None:
        self.hosts.servers[number].stubs()[0].suspend()

    def kill_envoy(self, number: int) -> None:
        """The gateway's Envoy, of the second gateway for number 1."""
        self.hosts.gateways[number % len(self.hosts.gateways)].children()[0].kill()

    def cut(self, number: int) -> None:
        """The link of a server, for a while."""
        self._cut(self.hosts.servers[number].name, self.settings.away_seconds)

    def cut_store(self, number: int) -> None:
        """The store's link, for long, while a stub dies."""
        with self._link_cut("store"):
            time.sleep(1)
            self.kill_stub(number)
            time.sleep(12 * self.settings.away_seconds)

    def cut_gateway(self, number: int) -> None:
        """One of the two gateways: clients have both on their list."""
        self._cut(self.hosts.gateways[0].name, self.settings.away_seconds)

    def kill_gateway(self, number: int) -> None:
        """One of the two gateways as a whole, and a new start."""
        self.hosts.gateways[0].kill()
        self.hosts.gateways[0].start()

    def publish_without(self, number: int) -> None:
        """A version, while the link of a server is cut."""
        with self._link_cut(self.hosts.servers[number].name):
            self._publish()
        self._wait_until_one_version_is_served()

    def cut_in_mid_release(self, number: int) -> None:
        """The link of a server, at a random moment of a release."""
        publisher = threading.Thread(target=self._publish)
        publisher.start()
        time.sleep(self._random.uniform(0, 3))
        self._cut(self.hosts.servers[number].name, self.settings.away_seconds)
        publisher.join()
        self._wait_until_one_version_is_served()

    def kill_publisher(self, number: int) -> None:
        """A release at a random moment of it; the next one comes to be served by all."""
        with tempfile.TemporaryDirectory() as folder:
            artifact = write_artifact(Path(folder) / "tiny", score=0.75)
            where = ["--repository", self.hosts.repository, "--url", ",".join(self.hosts.grpc_urls)]
            unjudged = ["--no-private-server", "--slowdown", "100"]
            publisher = subprocess.Popen(
                [sys.executable, "-m", "serving", "publish", str(artifact), *where, *unjudged],
                env=os.environ | {"TRITON_ADMIN_KEY": KEY},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(self._random.uniform(0, 6))
            publisher.kill()
            publisher.wait()
        self._publish()
        self._wait_until_one_version_is_served()

    def _publish(self) -> None:
        """A network whose answer nobody looks at: the load counts failures."""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            score = self._random.uniform(0.6, 0.9)
            settings = PublishSettings(
                artifact=write_artifact(Path(folder) / "tiny", score=score),
                repository=self.hosts.repository,
                url=",".join(self.hosts.grpc_urls),
                admin_key=KEY,
                private_server=False,
                slowdown=100.0,
            )
            try:
                publish(settings)
            except ServingError as error:
                self.refused.append(str(error))

    def _wait_until_one_version_is_served(self) -> None:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while len(served := {self._versions(url) for url in self.hosts.grpc_urls}) > 1:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the servers serve versions {served}")
            time.sleep(0.2)

    def _versions(self, url: str) -> tuple[str, ...]:
        with Control(url, KEY) as control:
            return tuple(sorted(control.versions("ssd", "READY")))

    def _cut(self, name: str, seconds: float) -> None:
        with self._link_cut(name):
            time.sleep(seconds)

    @contextlib.contextmanager
    def _link_cut(self, name: str) -> Iterator[None]:
        self.hosts.set_link(name, up=False)
        try:
            yield
        finally:
            self.hosts.set_link(name, up=True)


EACH: dict[str, Scenario] = {
    "server killed": Service.kill,
    "tritonserver ended": Service.end_tritonserver,
    "stub killed": Service.kill_stub,
    "server drained": Service.drain,
    "tritonserver frozen": Service.freeze,
    "stub frozen": Service.freeze_stub,
}
ONCE: dict[str, Scenario] = {"Envoy killed": Service.kill_envoy}
EACH_MACHINE: dict[str, Scenario] = {
    "server killed": Service.kill,
    "link cut": Service.cut,
    "released while cut off": Service.publish_without,
    "cut off in mid-release": Service.cut_in_mid_release,
}
ONCE_MACHINE: dict[str, Scenario] = {
    "gateway killed": Service.kill_gateway,
    "gateway cut off": Service.cut_gateway,
    "store cut off, a stub killed": Service.cut_store,
}
RANDOM = {
    "server killed": Service.kill,
    "tritonserver ended": Service.end_tritonserver,
    "stub killed": Service.kill_stub,
    "Envoy killed": Service.kill_envoy,
    "publisher killed": Service.kill_publisher,
}


def main(settings: Settings) -> int:
    with tempfile.TemporaryDirectory() as folder:
        hosts = Hosts(Path(folder), machines=settings.machines, check=settings.check)
        with hosts:
            hosts.wait_until_healthy(RECOVERY_SECONDS)
            service = Service(hosts, settings)
            capacity = measure_capacity(hosts.urls)
            with Steady(hosts.urls, settings.share * capacity) as load:
                if settings.kills:
                    rows = _kill_at_random(service, load)
                else:
                    rows = _break_in_turn(service, load)
        left = hosts.left_behind()
    kind = "network namespaces" if settings.machines else "one machine"
    found = {
        "command": f"python -m benchmarks.failures {' '.join(sys.argv[1:])}",
        "on": kind,
        "capacity_photos_per_second": round(capacity, 1),
        "load_photos_per_second": round(settings.share * capacity, 1),
        "left_behind": left,
        "releases_refused": service.refused,
        "rows": rows,
    }
    show_figures(found, settings.output)
    return 0


def _break_in_turn(service: Service, load: Steady) -> list[dict[str, Any]]:
    machines, only = service.settings.machines, service.settings.only
    each, once = (EACH_MACHINE, ONCE_MACHINE) if machines else (EACH, ONCE)
    numbers = range(len(service.hosts.servers))
    todo = [(name, number, run) for name, run in each.items() for number in numbers]
    todo += [(name, 0, run) for name, run in once.items()]
    todo = [row for row in todo if not only or any(word in row[0] for word in only)]
    rows = []
    for name, number, run in tqdm(todo, unit="failure"):
        rows.append({"what": name, "server": number + 1, **_observe(service, load, number, run)})
    return rows


def _kill_at_random(service: Service, load: Steady) -> list[dict[str, Any]]:
    """Summed up: one row for each kind."""
    draw, only = random.Random(service.settings.seed), service.settings.only
    names = [name for name in RANDOM if not only or any(word in name for word in only)]
    rows: dict[str, list[dict[str, Any]]] = {}
    for _ in tqdm(range(service.settings.kills), unit="kill"):
        name = draw.choice(names)
        time.sleep(draw.uniform(0, 2))
        number = draw.randrange(len(service.hosts.servers))
        rows.setdefault(name, []).append(_observe(service, load, number, RANDOM[name]))
    return [
        {
            "what": name,
            "times": len(found),
            "requests": sum(row["requests"] for row in found),
            "failed": sum(row["failed"] for row in found),
            "longest_until_all_are_healthy": max(row["until_all_are_healthy"] for row in found),
        }
        for name, found in rows.items()
    ]


def _observe(service: Service, load: Steady, number: int, run: Scenario) -> dict[str, Any]:
    """Do it, wait until all is as before, and count what was asked meanwhile."""
    began = time.monotonic()
    run(service, number)
    done = time.monotonic()
    time.sleep(SEEN_SECONDS)
    service.hosts.wait_until_healthy(RECOVERY_SECONDS)
    healthy = time.monotonic()
    load.settle()
    answers = load.since(began)
    failed = [answer for answer in answers if answer.error]
    return {
        "requests": len(answers),
        "failed": len(failed),
        "errors": sorted({answer.error for answer in failed}),
        "longest_answer": round(max(answer.seconds for answer in answers), 2),
        "done_after": round(done - began, 1),
        "until_all_are_healthy": round(healthy - began, 1),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(tyro.cli(Settings)))
