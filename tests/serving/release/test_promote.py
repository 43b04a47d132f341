"""Which version is live after publishing, going back and promoting, on the disk alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving import history
from serving.__main__ import main
from serving.errors import DamagedFileError, PublishError
from serving.history import read_record
from serving.model_config import list_configs, parse_config
from serving.release.promote import (
    PromoteSettings,
    RollbackSettings,
    promote,
    rollback,
)
from serving.release.publish import (
    CanarySettings,
    PublishSettings,
    canary,
    publish,
)
from serving.repository import Repository, State, open_repository
from serving.store.address import open_store
from tests.serving.test_artifact import flip_a_bit

UNTRIED: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}


class Releases:
    """The commands, for one repository."""

    def __init__(self, repository: Path, artifact: Path) -> None:
        self.repository = str(repository)
        self.artifact = artifact

    def publish(self, **settings: Any) -> State:
        settings = {**UNTRIED, **settings}
        publish(PublishSettings(artifact=self.artifact, repository=self.repository, **settings))
        return self.state()

    def canary(self, share: float = 0.1) -> State:
        settings = CanarySettings(
            artifact=self.artifact, repository=self.repository, share=share, **UNTRIED
        )
        canary(settings)
        return self.state()

    def promote(self, version: int | None = None, keep: int = 5) -> State:
        promote(PromoteSettings(version=version, repository=self.repository, keep=keep))
        return self.state()

    def rollback(self, version: int | None = None) -> State:
        rollback(RollbackSettings(version=version, repository=self.repository))
        return self.state()

    def state(self) -> State:
        return self.open_repository().state()

    def versions(self) -> list[int]:
        return self.open_repository().versions()

    def open_repository(self) -> Repository:
        return open_repository(open_store(self.repository), "ensemble")


@pytest.fixture
def commands(repository: Path, make_artifact: Callable[..., Path]) -> Releases:
    """A copy of the shipped repository, with version 1 alone."""
    return Releases(repository, make_artifact())


def files(commands: Releases) -> dict[str, bytes]:
    store = open_store(commands.repository)
    return {path: store.read(path) for path in store.files(hidden=True)}


def test_the_order_of_what_was_live(commands: Releases) -> None:
    """Going back goes from version to version; what was gone back from does not come again."""
    assert [commands.publish().live for _ in range(2)] == [2, 3]
    assert commands.rollback() == State(2)
    assert commands.publish() == State(4)
    assert commands.rollback() == State(2)
    assert commands.rollback() == State(1)
    assert commands.promote(3) == State(3)
    assert commands.rollback() == State(1)
    assert commands.rollback(4) == State(4)
    assert commands.publish() == State(5)
    assert commands.rollback() == State(4)
    assert commands.versions() == [1, 2, 3, 4, 5]


def test_each_change_of_what_is_served_notes_when(
    commands: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary's coming and going too: figures of before are other versions'."""
    clock = iter("abcdefg")
    monkeypatch.setattr(history, "tell_time", lambda: next(clock))
    changes = [
        commands.publish,
        commands.rollback,
        commands.canary,
        commands.rollback,  # of the canary: the live version stays
        lambda: commands.promote(2),
    ]
    seen = []
    for change in changes:
        change()
        seen.append(read_record(open_store(commands.repository), "ensemble").since)
        with pytest.raises(PublishError):
            commands.promote(99)
    assert seen == sorted(set(seen))
    assert len(seen) == len(changes)


def test_a_live_version_that_is_not_the_newest_stays_so(commands: Releases) -> None:
    """The configuration names it, so a server that starts later serves it too."""
    commands.publish()
    assert commands.rollback() == State(1)
    text = Path(commands.repository, "ssd", "config.pbtxt").read_text()
    assert "specific" in text
    assert list(parse_config(text).version_policy.specific.versions) == [1]
    assert commands.promote(2) == State(2)
    text = Path(commands.repository, "ssd", "config.pbtxt").read_text()
    assert parse_config(text).version_policy.latest.num_versions == 1


def test_nothing_was_live_before(commands: Releases) -> None:
    before = files(commands)
    with pytest.raises(PublishError, match="no version was live before 1: name one of 1"):
        commands.rollback()
    assert files(commands) == before


@pytest.mark.parametrize("way", ["rollback", "promote"])
def test_a_version_that_is_not_the_published_one_does_not_become_live(
    commands: Releases, way: str
) -> None:
    commands.publish()
    commands.publish()
    network = Path(commands.repository, "ssd", "2", "model.onnx")
    published = network.read_bytes()
    flip_a_bit(network)
    with pytest.raises(DamagedFileError, match=rf"{network} is not the file that was published"):
        getattr(commands, way)(2)
    assert commands.state() == State(3)
    network.write_bytes(published)
    assert getattr(commands, way)(2) == State(2)


def test_a_canary_that_is_not_the_published_one_does_not_become_live(commands: Releases) -> None:
    canary = commands.canary()
    flip_a_bit(Path(commands.repository, "ssd", "2", "model.onnx"))
    with pytest.raises(DamagedFileError, match="is not the file that was published"):
        commands.promote()
    assert commands.state() == canary
    assert commands.rollback() == State(1)


def test_copied_versions_have_no_order_but_their_numbers(
    commands: Releases, make_artifact: Callable[..., Path]
) -> None:
    network = (make_artifact() / "model.onnx").read_bytes()
    for version in ("5", "9"):
        Path(commands.repository, "ssd", version).mkdir()
        Path(commands.repository, "ssd", version, "model.onnx").write_bytes(network)
    assert commands.state() == State(9)
    assert commands.rollback() == State(5)
    assert commands.rollback() == State(1)
    assert commands.publish() == State(10)
    assert commands.rollback() == State(1)


def test_the_version_before_is_gone(commands: Releases) -> None:
    """Removed by hand: it goes back further."""
    for _ in range(3):
        commands.publish()
    store = open_store(commands.repository)
    store.remove("ssd/3")
    assert commands.rollback() == State(2)
    store.remove("ssd/1")
    with pytest.raises(PublishError, match="no version was live before 2: name one of 2, 4"):
        commands.rollback()
    assert commands.rollback(4) == State(4)


def test_numbers_are_never_given_twice(commands: Releases) -> None:
    commands.publish()
    commands.publish()
    commands.rollback()
    open_store(commands.repository).remove("ssd/3")
    assert commands.publish() == State(4)


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_versions_that_cannot_be_had(
    command: str, commands: Releases, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.publish()
    before = files(commands)
    for version, words in (
        ("7", "has no version 7 of ssd, only 1, 2"),
        ("0", "has no version 0 of ssd, only 1, 2"),
        ("2", "version 2 is live already"),
    ):
        assert main([command, version, "--repository", commands.repository]) == 1
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([command, "two", "--repository", commands.repository])
    assert ended.value.code == 2
    assert files(commands) == before


def test_no_canary(commands: Releases) -> None:
    with pytest.raises(PublishError, match="ensemble has no canary to promote: name a version"):
        commands.promote()


def test_a_canary_is_promoted(commands: Releases) -> None:
    commands.publish()
    assert commands.canary(0.25) == State(2, 3, 0.25)
    assert commands.promote() == State(3)
    assert not Path(commands.repository, "ensemble_canary").exists()
    assert commands.rollback() == State(2)


def test_a_canary_ends(commands: Releases) -> None:
    """Its version stays, and may become live later; it never was."""
    commands.publish()
    before = files(commands)
    commands.canary()
    assert commands.rollback() == State(2)
    after = files(commands)
    policies = list_configs(open_store(commands.repository), "ssd")
    assert before.items() - after.items() <= {
        (name, before[name]) for name in ("releases.json", *policies)
    }
    assert after.keys() - before.keys() == {"ssd/3/model.onnx"}
    assert commands.rollback() == State(1)
    assert commands.promote(3) == State(3)
    assert commands.rollback() == State(1)


def test_a_canary_is_in_the_way(commands: Releases) -> None:
    commands.publish()
    commands.canary()
    before = files(commands)
    for call, words in (
        (lambda: commands.promote(1), "version 3 is a canary: promote or roll back that"),
        (lambda: commands.rollback(1), "version 3 is a canary: roll back that first"),
        (commands.publish, "version 3 is a canary of ensemble: promote it or roll it back first"),
        (commands.canary, "version 3 is a canary of ensemble: promote it or roll it back first"),
    ):
        with pytest.raises(PublishError, match=words):
            call()
        assert files(commands) == before
    assert commands.promote(3) == State(3)


def test_old_versions_go_when_another_is_promoted(commands: Releases) -> None:
    for _ in range(4):
        commands.publish()
    assert commands.promote(2, keep=1) == State(2)
    assert commands.versions() == [2, 5]  # live, and the newest, to which rollback goes
    assert commands.rollback() == State(5)
    assert commands.promote(2, keep=1) == State(2)
    assert commands.publish(keep=1) == State(6)
    assert commands.versions() == [2, 6]
