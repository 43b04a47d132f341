"""Several servers over one repository: a release happens on all of them or on none."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from client import Detector
from serving.__main__ import main
from serving.control import Control, sample_photo
from serving.errors import PublishError
from serving.release.deployment import Deployment
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import CanarySettings, PublishSettings, canary, publish
from serving.release.servers import Servers, read_addresses, read_state
from serving.repository import State, open_repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.conftest import PROJECT, wait_until
from tests.serving.conftest import copy_repository
from tests.serving.service import Service
from tests.serving.tiny_network import write_artifact

KEY = "key-of-two-servers"
NOBODY = "127.0.0.1:9"
UNTRIED: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}


class Pair(Service):
    """Two servers over one repository; each test leaves version 1 live on both, score .9."""

    def __init__(self, repository: Path, server: EmbeddedServer, second: EmbeddedServer) -> None:
        super().__init__(repository, server)
        self.second = second

    @property
    def url(self) -> str:
        return f"{self.server.grpc_url},{self.second.grpc_url}"

    def states(self) -> list[State | None]:
        """What each serves."""
        task = open_repository(open_store(self.repository), "ensemble").task
        with self.server.control() as first, self.second.control() as second:
            return [read_state(control, task) for control in (first, second)]

    def scores(self) -> list[float]:
        """What each answers a photo with."""
        return [Service(self.repository, each).score() for each in (self.server, self.second)]

    def publish(self, artifact: Path, **settings: Any) -> None:
        publish(PublishSettings(artifact=artifact, **{**self.where(), **UNTRIED, **settings}))

    def go_back(self) -> None:
        """To version 1, and the versions after it are forgotten."""
        rollback(RollbackSettings(version=1, **self.where()))
        assert self.states() == [State(1), State(1)]
        assert self.scores() == [0.9, 0.9]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    repository = copy_repository(tmp_path_factory.mktemp("pair") / "models", score=0.9)
    settings = ServerSettings(repository, admin_key=KEY)
    with EmbeddedServer(settings) as server, EmbeddedServer(settings) as second:
        yield Pair(repository, server, second)


@pytest.fixture
def better(tmp_path: Path) -> Path:
    """An artifact that finds its object with the score .8."""
    return write_artifact(tmp_path / "better", score=0.8)


def test_addresses(tmp_path: Path) -> None:
    assert read_addresses("a:1") == ["a:1"]
    assert read_addresses("a:1, b:2,[::1]:3") == ["a:1", "b:2", "[::1]:3"]
    (tmp_path / "fleet").write_text("# two\na:1 a:2\n\nb:2  # the other\n")
    assert read_addresses(f"@{tmp_path}/fleet") == ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",", "must be host:port of Triton's gRPC port, such as 127.0.0.1:8001, .* got ''"),
        ("a:1,b", "must be host:port of Triton's gRPC port, .* got 'b'"),
        ("a:1,http://b:2", "--url a:1,http://b:2: must be host:port of gRPC, found http://b:2"),
        ("a:1,b:2,a:1", "--url a:1,b:2,a:1: a:1 is there 2 times"),
        ("@absent", "--url @absent: the file cannot be read: .*No such file"),
        ("@{empty}", "the file is empty, expected an address on each line"),
    ],
)
@pytest.mark.parametrize("command", ["rollback", "releases", "compare photo.jpg"])
def test_addresses_that_are_none(
    command: str, text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "photo.jpg").write_bytes(sample_photo())
    where = ["--repository", str(PROJECT / "model_repository")]
    given = ["--url", text.format(empty=tmp_path / "empty")]
    words_of_command = command.replace("photo.jpg", str(tmp_path / "photo.jpg")).split()
    if command.startswith("compare"):
        where = []
    assert main([*words_of_command, *where, *given]) == 1
    said = capsys.readouterr()
    assert re.fullmatch(f"error: [^\n]*{words}[^\n]*\n", said.err), said.err
    assert said.out == ""


def test_no_servers() -> None:
    nobody = Servers({})
    assert not nobody
    assert nobody.each(lambda control: control.load("ssd")) == {}
    assert nobody.leave_out_silent() == []


def test_what_fails_is_named_and_the_others_are_waited_for(pair: Pair) -> None:
    with Control(pair.server.grpc_url, KEY) as there, Control(NOBODY, KEY) as nobody:
        servers = Servers({"there": there, "nobody": nobody})
        with pytest.raises(InferenceServerException, match="nobody: failed to connect"):
            servers.each(lambda control: control.metadata("ssd", ""))
        with servers.going_on() as lost:
            assert list(servers.each(lambda control: control.has_version("ssd", "1"))) == ["there"]
            assert servers.each(lambda control: control.has_version("ssd", "1")) == {"there": True}
        assert list(lost) == ["nobody"]
        assert len(servers) == 2
        assert servers.leave_out_silent() == ["nobody"]
        assert list(servers.controls) == ["there"]


def test_publish_and_a_canary_with_sticky_keys(
    pair: Pair, better: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pair.used() as scores:
        canary(CanarySettings(artifact=better, share=0.5, **pair.where(), **UNTRIED))
        for key in map(str, range(8)):
            with Detector(pair.url, canary_key=key) as detector:
                answers = [detector.detect(sample_photo()) for _ in range(4)]
            assert len({(answer.model, answer.detections[0].score) for answer in answers}) == 1
            assert len({answer.server for answer in answers}) == 2
        rollback(RollbackSettings(**pair.where()))
        pair.publish(better)
        assert pair.scores() == [0.8, 0.8]
        pair.go_back()
    assert scores == {0.9, 0.8}
    first, second = pair.url.split(",")
    assert f"version 3 is live, before it 1; {first}, {second} serve it" in capsys.readouterr().out


def newest(pair: Pair) -> int:
    """The repository's newest version."""
    return max(open_repository(open_store(pair.repository), "ensemble").versions())


def options(pair: Pair) -> list[str]:
    """Where a command is to be carried out."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in pair.where().items()]


def kill(server: EmbeddedServer) -> None:
    os.kill(server.process.pid, signal.SIGKILL)


def test_one_refuses(pair: Pair, better: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new version cannot start in time."""
    before, load = pair.files(), Control.load

    def impatient(control: Control, model: str, **options: Any) -> None:
        new = (pair.repository / "ssd" / "2").exists()
        load(control, model, **(options | {"timeout": 10} if new and model == "ssd" else options))

    monkeypatch.setattr(Control, "load", impatient)
    slow = Service(pair.repository, pair.second)
    hold = slow.keep_processes_from_starting()
    with pair.used() as scores:
        words = f"{pair.second.grpc_url}: Deadline Exceeded; "
        with pytest.raises(PublishError, match=words):
            pair.publish(better)
        hold.unlink()
    assert pair.files() == before
    assert scores == {0.9}


def test_one_dies_before_the_switch(
    pair: Pair, better: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, confirm = pair.files(), Deployment.confirm_version

    def die(deployment: Deployment, version: int) -> None:
        kill(pair.second)
        confirm(deployment, version)

    monkeypatch.setattr(Deployment, "confirm_version", die)
    with Service(pair.repository, pair.server).used() as scores:
        words = "the repository is as it was, but the server could not be brought back"
        with pytest.raises(PublishError, match=f"{pair.second.grpc_url}: .*; {words}"):
            pair.publish(better)
    assert scores == {0.9}
    assert pair.files() == before
    assert_serve(pair, State(1))
    assert pair.scores() == [0.9, 0.9]


def test_one_dies_after_the_switch(
    pair: Pair,
    better: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The new version stays live: the others go on, and so does it when it is there again."""
    serve = Deployment.serve_alone

    def die(deployment: Deployment, state: State) -> None:
        kill(pair.second)
        serve(deployment, state)

    with monkeypatch.context() as patch, Service(pair.repository, pair.server).used() as scores:
        patch.setattr(Deployment, "serve_alone", die)
        pair.publish(better)
    said = capsys.readouterr().out
    assert f"the next command tidies up, now {pair.second.grpc_url}: " in said
    assert scores == {0.9, 0.8}
    assert_serve(pair, State(newest(pair)))
    assert pair.scores() == [0.8, 0.8]
    pair.go_back()
    assert "finishing a release that was interrupted" in capsys.readouterr().out


def assert_serve(pair: Pair, state: State) -> None:
    """Both serve this, as soon as one that died is there again."""
    wait_until(lambda: pair.states() == [state, state], retry=InferenceServerException)


def test_publisher_is_killed_between_the_switches(
    pair: Pair, better: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are brought back by the next command, even by one that is refused."""
    before = pair.states()
    number = newest(pair) + 1
    code = DIE.format(second=pair.second.grpc_url, number=number)
    command = ["publish", str(better), "--no-private-server", "--slowdown", "1000", *options(pair)]
    with pair.used() as scores:
        publisher = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True
        )
        assert publisher.returncode == -signal.SIGKILL, publisher.stderr
        assert pair.states() == [State(number), State(1)]
        assert main(["rollback", "99", *options(pair)]) == 1
    assert pair.states() == before
    assert scores == {0.9, 0.8}
    assert "undoing a release that was interrupted: version" in capsys.readouterr().out


# A publisher that dies when one server has been switched and the other has not.
DIE = """
import os, signal, sys
from serving.__main__ import main
from serving.release.deployment import Deployment
pin = Deployment.pin

def die(deployment, version):
    if version == {number}:
        deployment.servers.controls.pop("{second}")
        pin(deployment, version)
        os.kill(os.getpid(), signal.SIGKILL)
    pin(deployment, version)

Deployment.pin = die
main(sys.argv[1:])
"""


def test_one_that_missed_a_release(
    pair: Pair, better: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told of, and brought along by the next command without a failed request."""
    first, second = pair.url.split(",")
    number = newest(pair) + 1
    listing = ["releases", *options(pair)]
    assert main(listing) == 0
    pair.publish(better, url=f"{first},{NOBODY}")
    said = capsys.readouterr().out
    assert (
        f"{NOBODY} does not answer and is left out: it serves what the repository says as" in said
    )
    assert f"version {number} is live, before it 1; {first} serves it" in said
    assert pair.states() == [State(number), State(1)]
    assert main(listing) == 1
    shown = capsys.readouterr()
    head, row = shown.out.splitlines()[1:3]
    assert head.split()[-2:] == [first, second]
    assert (row.index("live"), row[head.index(first) :]) == (head.index("state"), "live")
    skew = f"skew: {second} serves version 1 live of ensemble, {pair.repository} says version "
    assert shown.err == f"{skew}{number} live\n"
    with pair.used() as scores:
        assert main(["rollback", "99", *options(pair)]) == 1
    assert scores == {0.9, 0.8}
    assert f"bringing along what missed a release: {second}" in capsys.readouterr().out
    assert pair.states() == [State(number)] * 2
    assert main(listing) == 0
    pair.go_back()


def test_one_missed_the_end_of_a_canary(pair: Pair, better: Path) -> None:
    canary(CanarySettings(artifact=better, share=0.5, **pair.where(), **UNTRIED))
    rollback(RollbackSettings(**(pair.where() | {"url": pair.server.grpc_url})))
    assert pair.states() == [State(1), State(1, newest(pair), 0.5)]
    assert main(["rollback", "99", *options(pair)]) == 1
    assert pair.states() == [State(1), State(1)]


def test_one_that_follows_catches_up(pair: Pair, better: Path) -> None:
    """The publisher cannot reach it; its clients can."""
    follower = EmbeddedServer(ServerSettings(pair.repository, admin_key=KEY, watch=True))
    with follower, Service(pair.repository, follower).used() as scores:
        pair.publish(better, url=f"{pair.url},{NOBODY}")
        wait_until(lambda: 0.8 in scores)
        pair.go_back()
        wait_until(lambda: Service(pair.repository, follower).score() == 0.9)
    assert scores == {0.9, 0.8}


def test_one_of_another_repository(pair: Pair, better: Path, project_repository: Path) -> None:
    """Nothing is changed anywhere."""
    settings = ServerSettings(project_repository, admin_key=KEY)
    with EmbeddedServer(settings) as other:
        before = pair.files()
        url = f"{pair.url},{other.grpc_url}"
        with pytest.raises(PublishError, match=f"^{other.grpc_url}.*: does it serve "):
            pair.publish(better, url=url)
        assert pair.files() == before
        assert pair.states() == [State(1), State(1)]


def test_one_with_another_key(
    pair: Pair, better: Path, server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pair.files()
    with pytest.raises(PublishError, match=f"^{server.grpc_url} does not accept this command: "):
        pair.publish(better, url=f"{pair.url},{server.grpc_url}")
    assert pair.files() == before
    assert pair.states() == [State(1), State(1)]
    assert main(["releases", *options(pair), f"--url={pair.url},{server.grpc_url}"]) == 1
    assert f"{server.grpc_url}: " in capsys.readouterr().err


def test_none_answers(pair: Pair, better: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = pair.files()
    with pytest.raises(PublishError, match=f"^{NOBODY} does not accept this command: .*connect"):
        pair.publish(better, url=f"{NOBODY},127.0.0.1:10")
    assert pair.files() == before


def test_compare(pair: Pair, better: Path, smear: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary(CanarySettings(artifact=better, share=0.5, **pair.where(), **UNTRIED))
    assert main(["compare", str(smear), "--url", pair.url]) == 0
    assert "1 photos to each of ensemble and ensemble_canary" in capsys.readouterr().out
    assert main(["compare", str(smear), "--url", f"{pair.url},{NOBODY}"]) == 1
    assert f"no Triton server answers at {NOBODY}: nothing listens there" in capsys.readouterr().err
    rollback(RollbackSettings(**pair.where()))
