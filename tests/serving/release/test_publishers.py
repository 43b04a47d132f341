"""Publishers as real processes: killed under load, and two at once."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from serving import history
from serving.repository import open_repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.conftest import wait_until
from tests.serving.service import Service

KILLS = 4
SECONDS = (0.0, 2.0)  # from the lock to a publisher's end by force


def start(*arguments: str) -> subprocess.Popen[str]:
    """One `python -m serving publish`."""
    return subprocess.Popen(
        [sys.executable, "-m", "serving", "publish", *arguments, "--slowdown", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def service(tiny_repository: Path) -> Iterator[Service]:
    """A server over a network that finds something."""
    with EmbeddedServer(ServerSettings(tiny_repository)) as server:
        yield Service(tiny_repository, server)


def test_killed_under_load(service: Service, make_artifact: Callable[..., Path]) -> None:
    seconds = random.Random(4)
    where = [f"--repository={service.repository}", f"--url={service.server.grpc_url}"]
    where += [f"--admin-key={service.server.admin_key}", "--no-private-server"]
    artifacts = [str(make_artifact(score=0.85 - 0.08 * n)) for n in range(KILLS + 1)]
    with service.used():
        for artifact in artifacts[:-1]:
            publisher = start(artifact, *where)
            wait_until(partial(is_at_work, publisher, service), retry=FileNotFoundError)
            time.sleep(seconds.uniform(*SECONDS))
            publisher.send_signal(signal.SIGKILL)
            publisher.communicate()
            service.score()
        last = start(artifacts[-1], *where)
        told, _ = last.communicate(timeout=60)
        assert last.returncode == 0, told
    store = open_store(service.repository)
    assert service.score() == 0.53
    assert [path.name for path in service.repository.parent.glob(".*")] == []
    record = history.read_record(store, "ensemble")
    assert record.unfinished is None
    there = open_repository(store, "ensemble").versions()
    assert there == list(range(1, len(there) + 1))
    assert there[-1] == record.highest == record.lived[-1]
    wait_until(service.is_ready)


def is_at_work(publisher: subprocess.Popen[str], service: Service) -> bool:
    """Whether it holds the repository's lock, in which its process id stands."""
    lock = service.repository.parent / f".{service.repository.name}.lock"
    return f'"pid": {publisher.pid},' in lock.read_text()


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tiny_repository: Path) -> str:
    """A repository."""
    if request.param == "folder":
        return str(tiny_repository)
    address = str(request.getfixturevalue("s3"))
    open_store(address).create(tiny_repository)
    return address


def test_two_at_once(address: str, make_artifact: Callable[..., Path]) -> None:
    """The trial in a private server takes longer than an object store's lock is watched."""
    artifacts = [str(make_artifact(score=score)) for score in (0.8, 0.7)]
    publishers = [start(artifact, f"--repository={address}") for artifact in artifacts]
    told = [publisher.communicate(timeout=60)[0] for publisher in publishers]
    codes = [publisher.returncode for publisher in publishers]
    assert sorted(codes) == [0, 1], told
    loser, winner = codes.index(1), codes.index(0)
    assert "version 2 is live, before it 1" in told[winner]
    expected = f"{address} is being changed by "
    assert expected in told[loser]
    assert f"(process {publishers[winner].pid}) for publish {artifacts[winner]}" in told[loser]
    store = open_store(address)
    assert open_repository(store, "ensemble").versions() == [1, 2]
    assert store.read("ssd/2/model.onnx") == Path(artifacts[winner], "model.onnx").read_bytes()
