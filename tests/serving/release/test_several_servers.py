"""Several servers over one repository: a release happens on all of them or on none."""

import os
import signal
import subprocess
import sys
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
from serving.release.publish import CanarySettings, canary
from serving.repository import State
from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import wait_until
from tests.serving.service import UNTRIED, Pair, Service

NOBODY = "127.0.0.1:9"


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


def kill(server: EmbeddedServer) -> None:
    os.kill(server.process.pid, signal.SIGKILL)


def test_one_refuses(pair: Pair, better: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new version does not start in time."""
    before, load, holds = pair.files(), Control.load, list[Path]()
    number = pair.newest() + 1

    def impatient(control: Control, model: str, **options: Any) -> None:
        new = (pair.repository / "ssd" / str(number)).exists()
        if holds or not new or model != "ssd" or control.url != pair.second.grpc_url:
            return load(control, model, **options)
        holds.append(Service(pair.repository, pair.second).keep_processes_from_starting())
        try:
            load(control, model, timeout=0.3)
        finally:
            holds[0].unlink()

    monkeypatch.setattr(Control, "load", impatient)
    with pair.used() as scores:
        words = f"{pair.second.grpc_url}: Deadline Exceeded; everything is as it was"
        with pytest.raises(PublishError, match=words):
            pair.publish(better)
    assert pair.files() == before
    assert pair.states() == [State(1), State(1)]
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
    assert_serve(pair, State(pair.newest()))
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
    number = pair.newest() + 1
    code = DIE.format(second=pair.second.grpc_url, number=number)
    command = ["publish", str(better), "--no-private-server", "--slowdown", "1000", *pair.options()]
    with pair.used() as scores:
        publisher = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True
        )
        assert publisher.returncode == -signal.SIGKILL, publisher.stderr
        assert pair.states() == [State(number), State(1)]
        assert main(["rollback", "99", *pair.options()]) == 1
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
    number = pair.newest() + 1
    listing = ["releases", *pair.options()]
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
        assert main(["rollback", "99", *pair.options()]) == 1
    assert scores == {0.9, 0.8}
    assert f"bringing along what missed a release: {second}" in capsys.readouterr().out
    assert pair.states() == [State(number)] * 2
    assert main(listing) == 0
    pair.go_back()


def test_one_missed_the_end_of_a_canary(pair: Pair, better: Path) -> None:
    canary(CanarySettings(artifact=better, share=0.5, **pair.where(), **UNTRIED))
    rollback(RollbackSettings(**(pair.where() | {"url": pair.server.grpc_url})))
    assert pair.states() == [State(1), State(1, pair.newest(), 0.5)]
    assert main(["rollback", "99", *pair.options()]) == 1
    assert pair.states() == [State(1), State(1)]


def test_one_that_follows_catches_up(pair: Pair, better: Path) -> None:
    """The publisher cannot reach it; its clients can."""
    follower = EmbeddedServer(
        ServerSettings(pair.repository, admin_key=pair.server.admin_key, watch=True)
    )
    with follower, Service(pair.repository, follower).used() as scores:
        pair.publish(better, url=f"{pair.url},{NOBODY}")
        wait_until(lambda: 0.8 in scores)
        pair.go_back()
        wait_until(lambda: Service(pair.repository, follower).score() == 0.9)
    assert scores == {0.9, 0.8}
