"""Every release command over a repository in S3, while a Triton that serves it is asked all along.

Each version answers with a score and a box of its own, so a mixture of two would show.
"""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from client import Detector, DetectorError
from client.bucket.bucket import PATIENCE
from serving.__main__ import main
from serving.repository import open_repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.conftest import wait_until
from tests.serving.store.refusing import refusing_store
from tests.serving.tiny_network import write_artifact

KEY = "a-key-of-this-test"
CLIENTS = 3
PAUSE = 0.05  # seconds between two requests of each: the store runs in this process, too
START_SECONDS = 60  # of three programs, on a busy machine; test_base.py is stricter about one store
# version: the score and the lower edge of its one box, of the photo
ANSWERS = {1: (0.9, 0.75), 2: (0.8, 0.7), 3: (0.7, 0.65)}


@pytest.fixture(autouse=True)
def admin_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key for the server and for the commands."""
    monkeypatch.setenv("TRITON_ADMIN_KEY", KEY)


class Clients:
    """Threads that ask for detections until they are told to stop.

    Attributes:
        seen: how often each version answered; "mixed" for what no version answers.
        failures: what went wrong.
    """

    def __init__(self, url: str, photo: Path) -> None:
        self.seen: Counter[int | str] = Counter()
        self.failures: list[str] = []
        self._url = url
        self._photo = photo.read_bytes()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with Detector(self._url, canary_key=f"client {number}", retries=0) as detector:
            while not self._over.wait(PAUSE):
                try:
                    result = detector.detect(self._photo)
                except DetectorError as error:
                    self.failures.append(str(error))
                else:
                    (found,) = result.detections
                    self.seen[version_of(found.score, found.box.y2 / result.height)] += 1


def version_of(score: float, edge: float) -> int | str:
    """Which version answers so."""
    for version, (its_score, its_edge) in ANSWERS.items():
        if abs(score - its_score) < 0.01 and abs(edge - its_edge) < 0.01:
            return version
    return "mixed"


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[int, str]:
    """The folder of each version's artifact."""
    return {
        version: str(
            write_artifact(tmp_path / f"{version}", score=score, box=(0.25, 0.25, 0.75, edge))
        )
        for version, (score, edge) in ANSWERS.items()
    }


def test_life_of_a_repository_in_s3(
    s3: str,
    artifacts: dict[int, str],
    tmp_path: Path,
    smear: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ["--repository", s3]
    quick = ["--no-private-server", "--slowdown", "1000"]
    assert main(["publish", artifacts[1], *place]) == 0
    assert f"serve it: python -m serving up --repository {s3}" in capsys.readouterr().out
    store = open_store(s3)
    repository = open_repository(store, "ensemble")
    with (
        EmbeddedServer(ServerSettings(s3)) as server,
        Clients(server.grpc_url, smear) as clients,
    ):
        here = [*place, "--url", server.grpc_url]

        assert main(["publish", artifacts[2], *here, "--slowdown", "1000"]) == 0  # with its trial
        wait_until_answers(clients, 2)

        broken = str(write_artifact(tmp_path / "broken", score=float("nan")))
        before = store.files(hidden=True)
        assert main(["publish", broken, *here, *quick]) == 1
        assert main(["canary", broken, *here, *quick]) == 1
        assert store.files(hidden=True) == before

        assert main(["canary", artifacts[3], *here, *quick, "--share", "1"]) == 0
        with Detector(server.grpc_url, canary_key="anybody") as fresh:
            assert round(fresh.detect(smear).detections[0].score, 1) == 0.7
        assert main(["compare", str(smear), "--url", server.grpc_url]) == 0

        assert main(["promote", *here, "--keep", "1"]) == 0
        wait_until_answers(clients, 3)
        assert repository.versions() == [2, 3]
        assert main(["rollback", *here]) == 0
        wait_until_answers(clients, 2)

        capsys.readouterr()
        assert main(["releases", *here, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["ensemble"]
    assert clients.failures == []
    assert clients.seen["mixed"] == 0
    assert [(row["version"], row["state"], row["served"]) for row in rows] == [
        (3, "", False),
        (2, "live", True),
    ]
    assert repository.state().live == 2
    assert ".lock" not in {path.rsplit("/")[-1] for path in store.files(hidden=True)}


def wait_until_answers(clients: Clients, version: int) -> None:
    """Until the version that is live now has answered a client."""
    earlier = clients.seen[version]
    wait_until(lambda: clients.seen[version] >= earlier + CLIENTS)


@contextmanager
def down() -> Iterator[str]:
    """Nobody listens there."""
    yield "127.0.0.1:9"


@contextmanager
def silent() -> Iterator[str]:
    """Somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


denying = partial(refusing_store, 403, "AccessDenied")


@pytest.mark.usefixtures("moto_server")
@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (down, "the store {host} cannot be reached: is it running"),
        (silent, "{host} does not answer within 6 s, tried twice"),
        (denying, r"{host} denies access to s3://{host}/bucket/models \(AccessDenied\): check AWS"),
    ],
)
def test_store_that_is_of_no_use(
    trouble: Callable[[], AbstractContextManager[str]],
    words: str,
    artifacts: dict[int, str],
) -> None:
    with trouble() as host:
        expect_refusal(f"s3://{host}/bucket/models", words.format(host=host), artifacts[1])


def test_no_such_bucket(moto_server: str, artifacts: dict[int, str]) -> None:
    address = f"s3://{moto_server}/nobody/models"
    expect_refusal(address, f"{moto_server} has no bucket nobody: make it", artifacts[1])


def expect_refusal(address: str, words: str, artifact: str) -> None:
    """Each command says the same one sentence within the time that is promised."""
    began = time.monotonic()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "serving", *command, "--repository", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in (["publish", artifact], ["rollback"], ["releases"])
    ]
    for command in running:
        out, said = command.communicate()
        assert (command.returncode, out) == (1, "")
        assert re.fullmatch(f"error: [^\n]*{words}[^\n]*\n", said), said
    assert time.monotonic() - began < PATIENCE + START_SECONDS
