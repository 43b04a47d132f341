"""Updates, broken artifacts and rollbacks under load: what clients notice of them.

    python -m benchmarks.hot_update --output benchmarks/results/hot_update.json
    python -m benchmarks.hot_update --servers 3 --output benchmarks/results/hot_update_3.json

Eight clients ask the embedded server without a pause. Meanwhile versions are published with
`serving publish` (explicit model control), then versions are copied into a repository that is
watched (`up --watch`). Each version's network gives an answer of its own, so each answer tells
which version gave it, and a mixture of two would show.

Several servers serve one repository and follow it, as a fleet's do; clients ask them in turns, or
with --gateway the one address in front of them. Versions are published, not copied.
"""

import contextlib
import dataclasses
import io
import itertools
import os
import platform
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.tiny_network import write_artifact
from benchmarks.load.versions import CLIENTS, STEP, Answer, Load
from benchmarks.measurement.figures import show_figures
from serving.errors import ServingError
from serving.fleet.fleet import Fleet, FleetSettings
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import PublishSettings, publish
from serving.server.server import EmbeddedServer, ServerSettings


@dataclasses.dataclass(frozen=True)
class Settings:
    """Measure what clients notice of new versions, broken ones and rollbacks."""

    updates: int = 20
    """New versions in each of the two ways."""
    broken: int = 5
    """Artifacts and version folders that cannot be served, in each way."""
    rollbacks: int = 5
    """Ways back to the version before, in each way."""
    servers: int = 1
    """Over the repository. With several, versions are published only."""
    gateway: bool = False
    """Ask the servers through a gateway."""
    private_server: bool = True
    """Try each artifact in a private Triton first, as `serving publish` does."""
    pause: float = 0.0
    """Seconds that each client waits between an answer and its next request."""
    output: Path | None = None
    """JSON file to write the figures to."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where versions are published, and where clients ask."""

    folder: Path
    url: str
    admin_key: str
    asked: str


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that was done, and the version that must answer what begins after its end."""

    kind: str
    live: int
    began: float
    ended: float


def _write_version(folder: Path, version: int) -> Path:
    """An artifact whose box and scores both tell the version."""
    edge = STEP * version
    return write_artifact(folder, score=0.5 + edge, box=(edge, 0.1, 0.9, 0.9))


class Explicit:
    """`serving publish` and `serving rollback` against servers with explicit model control."""

    watch = False

    def __init__(self, place: Place, load: Load, private: bool) -> None:
        self._folder, self._load = place.folder, load
        self._place: dict[str, Any] = {
            "repository": str(place.folder / "models"),
            "url": place.url,
            "admin_key": place.admin_key,
        }
        self._private = private

    def update(self, version: int) -> None:
        """Publish the version; on return it answers every new request."""
        self._publish(_write_version(self._folder / f"artifact-{version}", version))

    def broken(self, number: int) -> None:
        """Publish what cannot be served: it must be refused."""
        artifact = _write_version(self._folder / f"broken-{number}", 90)
        network = artifact / "model.onnx"
        if number % 2:
            network.write_bytes(network.read_bytes()[: 2000 + number])
        else:
            shutil.rmtree(artifact)
            write_artifact(artifact, score=float("nan"))
        with contextlib.suppress(ServingError):
            self._publish(artifact)
            raise AssertionError("a broken artifact was published")

    def rollback(self, version: int) -> None:
        """Go back to this version, the one before."""
        rollback(RollbackSettings(**self._place))

    def _publish(self, artifact: Path) -> None:
        publish(
            PublishSettings(
                artifact=artifact, private_server=self._private, slowdown=100.0, **self._place
            )
        )


class Watched:
    """Version folders copied and removed by hand, under a server that watches."""

    watch = True

    def __init__(self, place: Place, load: Load, private: bool) -> None:
        folder = place.folder
        self._folder, self._load = folder, load
        self._network = folder / "models" / "ssd"

    def update(self, version: int) -> None:
        """Copy the version in two halves, as a slow disk would, and wait until it answers."""
        artifact = _write_version(self._folder / f"artifact-{version}", version)
        self._copy((artifact / "model.onnx").read_bytes(), self._newest() + 1)
        self._load.wait_for(version)

    def broken(self, number: int) -> None:
        """Copy half a file, leave it for some looks of the server, and take it away."""
        artifact = _write_version(self._folder / f"broken-{number}", 90)
        self._copy((artifact / "model.onnx").read_bytes()[: 2000 + number], self._newest() + 1)
        time.sleep(4)
        shutil.rmtree(self._network / str(self._newest()))

    def rollback(self, version: int) -> None:
        """Remove the newest version: this one, before it, becomes live again."""
        shutil.rmtree(self._network / str(self._newest()))
        self._load.wait_for(version)

    def _newest(self) -> int:
        return max(int(path.name) for path in self._network.glob("[0-9]*"))

    def _copy(self, network: bytes, version: int) -> None:
        (self._network / str(version)).mkdir()
        with (self._network / str(version) / "model.onnx").open("wb") as file:
            file.write(network[:1000])
            file.flush()
            time.sleep(0.3)
            file.write(network[1000:])


def plan(settings: Settings) -> Iterator[str]:
    """The order of what happens: broken ones and rollbacks spread over the updates."""
    broken = rolled = 0
    for update in range(1, settings.updates + 1):
        yield "update"
        while broken < settings.broken * update // settings.updates:
            broken += 1
            yield "broken"
        while rolled < settings.rollbacks * update // settings.updates:
            rolled += 1
            yield "rollback"


def measure_way(way: type[Explicit] | type[Watched], settings: Settings) -> dict[str, Any]:
    """One way of updating, from a new repository to the figures."""
    with tempfile.TemporaryDirectory(prefix="hot-update-") as name:
        folder = Path(name)
        _make_repository(folder)
        with (
            _serve(folder, settings, way.watch) as place,
            Load(place.asked, settings.pause) as load,
        ):
            time.sleep(2)
            events = list(drive(way(place, load, settings.private_server), settings))
            time.sleep(1)
    return figures(load, events)


@contextlib.contextmanager
def _serve(folder: Path, settings: Settings, watch: bool) -> Iterator[Place]:
    """The servers, and in front of them the gateway if it is wanted."""
    repository, count = str(folder / "models"), settings.servers
    with contextlib.ExitStack() as stack:
        if settings.gateway:
            fleet = stack.enter_context(
                Fleet(FleetSettings(repository=repository, replicas=count, port=0))
            )
            servers, key, asked = fleet.servers, fleet.admin_key, fleet.url
        else:
            key = secrets.token_hex(16)
            one = ServerSettings(repository, watch=watch or count > 1, admin_key=key)
            servers = [stack.enter_context(EmbeddedServer(one)) for _ in range(count)]
            asked = ",".join(server.grpc_url for server in servers)
        yield Place(folder, ",".join(server.grpc_url for server in servers), key, asked)


def _make_repository(folder: Path) -> None:
    """The shipped repository with the coded version 1, and no other."""
    ignore = shutil.ignore_patterns("__pycache__", "2", "releases.json")
    shutil.copytree(ROOT / "model_repository", folder / "models", ignore=ignore)
    artifact = _write_version(folder / "artifact-1", 1)
    shutil.copyfile(artifact / "model.onnx", folder / "models" / "ssd" / "1" / "model.onnx")


def drive(way: Explicit | Watched, settings: Settings) -> Iterator[Event]:
    """Do what is planned."""
    live, number = [1], 1
    for event in tqdm(list(plan(settings)), desc=type(way).__name__, disable=None):
        began = time.monotonic()
        number += 1
        with contextlib.redirect_stdout(io.StringIO()):
            if event == "update":
                live.append(number)
                way.update(number)
            elif event == "broken":
                way.broken(number)
            else:
                live.pop()
                way.rollback(live[-1])
        yield Event(event, live[-1], began, time.monotonic())
        time.sleep(0.5)


def figures(load: Load, events: list[Event]) -> dict[str, Any]:
    """What the clients noticed: failures, and latency while something happened and otherwise."""
    during: list[float] = []
    quiet: list[float] = []
    for answer in load.answers:
        busy = any(e.began <= answer.ended and answer.began <= e.ended for e in events)
        (during if busy else quiet).append(1000 * (answer.ended - answer.began))
    return {
        "requests": len(load.answers) + len(load.failures),
        "failed": len(load.failures),
        "failures": sorted(set(load.failures))[:5],
        "answered by a version that was not live any more": _count_stale(load.answers, events),
        "versions that answered": len({answer.version for answer in load.answers}),
        "seconds": {
            kind: summary([e.ended - e.began for e in events if e.kind == kind])
            for kind in ("update", "broken", "rollback")
        },
        "latency, ms": {"while something happens": summary(during), "otherwise": summary(quiet)},
    }


def _count_stale(answers: list[Answer], events: list[Event]) -> int:
    """Requests that ran between two events and were not answered by the version that was live."""
    quiet = list(itertools.pairwise(events))
    return sum(
        answer.version != event.live
        for answer in answers
        for event, following in quiet
        if event.ended < answer.began and answer.ended < following.began
    )


def summary(values: list[float]) -> dict[str, float]:
    """Count, median, 99th percentile, largest."""
    if len(values) < 2:
        return {"count": len(values)}
    return {
        "count": len(values),
        "median": round(statistics.median(values), 2),
        "99%": round(statistics.quantiles(values, n=100)[-1], 2),
        "largest": round(max(values), 2),
    }


def main(settings: Settings) -> int:
    """Run both ways and print what was found. Exit code 1: a request failed."""
    ways: list[type[Explicit] | type[Watched]] = [Explicit, Watched]
    alone = settings.servers == 1 and not settings.gateway
    found = {way.__name__.lower(): measure_way(way, settings) for way in ways[: 1 + alone]}
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "clients": CLIENTS}
    if not alone:
        machine |= {"servers": settings.servers, "gateway": settings.gateway}
    show_figures({"machine": machine, **found}, settings.output)
    return int(any(result["failed"] for result in found.values()))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
