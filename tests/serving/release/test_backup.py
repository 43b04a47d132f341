"""Dated copies of a repository and an inbox: what is lost comes back, the oldest go."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from client import Box, Detection, Result
from client.inbox.inbox import Inbox
from client.inbox.samples import Samples
from serving.__main__ import main
from serving.release import backup
from serving.store.address import open_store
from serving.store.folder import FolderStore
from tests.serving.release.test_copying import contents, released

__all__ = ["released"]


def offer(folder: Path, seed: int) -> bool:
    """Have a photo wait in an inbox."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    photo = cv2.imencode(".png", pixels)[1].tobytes()
    found = Result((Detection("RBC", 0, 0.6, Box(4, 6, 20, 20)),), 32, 24)
    return Samples(Inbox(folder), 10).offer(photo, found, lambda: "version 1")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Two photos that wait, of the task that every repository here has."""
    folder = tmp_path / "inbox"
    assert all(offer(folder, seed) for seed in (1, 2))
    (folder / "labels.txt").write_text("RBC\n")
    return folder


def dates(target: str | Path) -> list[str]:
    return sorted({path.partition("/")[0] for path in open_store(target).files()})


def seconds(monkeypatch: pytest.MonkeyPatch, *ends: int) -> None:
    """Let each backup be of another second."""
    times = iter(f"2026-11-27T0200{end:02}Z" for end in ends)
    monkeypatch.setattr(backup, "name_now", lambda: next(times))


def test_repository_and_inbox_come_back_from_a_bucket(
    released: Path, inbox: Path, s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(released), s3, "--inbox", str(inbox)]) == 0
    [date] = dates(s3)
    assert f"{s3}/{date} is whole" in capsys.readouterr().out
    back = ["--repository", f"{tmp_path}/again", "--inbox", f"{tmp_path}/found"]
    assert main(["restore", f"{s3}/{date}", *back]) == 0
    assert contents(tmp_path / "again") == contents(released)
    assert contents(tmp_path / "found") == {
        path: data for path, data in contents(inbox).items() if not path.startswith(".")
    }
    assert len(Inbox(tmp_path / "found").samples()) == 2


def test_the_oldest_go_once_the_new_one_is_whole(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backups"
    (target / "2026-11-27T015959Z/models").mkdir(parents=True)  # of a killed one
    (target / "2026-11-27T015959Z/models/half").touch()
    (target / "notes").mkdir()
    (target / "notes/mine.txt").touch()
    seconds(monkeypatch, 1, 2, 3)
    for _ in range(2):
        assert main(["backup", str(released), str(target), "--keep", "2"]) == 0
    assert dates(target) == ["2026-11-27T020001Z", "2026-11-27T020002Z", "notes"]
    (released / "releases.json").write_text("{}")
    assert main(["backup", str(released), str(target), "--keep", "2"]) == 1
    assert dates(target)[:2] == ["2026-11-27T020001Z", "2026-11-27T020002Z"]


def test_people_go_on_correcting_meanwhile(
    released: Path, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, coming = FolderStore.read, iter([3])

    def busy(store: FolderStore, path: str) -> bytes:
        if str(inbox) == store.address and (seed := next(coming, None)):
            offer(inbox, seed)
            surest = Inbox(inbox).samples()[0]
            Inbox(inbox).proposals.remove(surest)
        return read(store, path)

    monkeypatch.setattr(FolderStore, "read", busy)
    assert main(["backup", str(released), f"{tmp_path}/backups", "--inbox", str(inbox)]) == 0
    [date] = dates(tmp_path / "backups")
    kept = Inbox(tmp_path / "backups" / date / "inbox")
    assert kept.samples() == Inbox(inbox).samples()
    assert all(kept.proposals.image(name) for name in kept.samples())


def test_what_is_not_done(
    released: Path, inbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{tmp_path}/backups"
    assert main(["backup", str(released), target]) == 0
    [date] = dates(target)
    for words, told in (
        (["backup", str(released), target, "--keep", "0"], "--keep 0: expected 1 or more"),
        (["backup", str(released), target, "--inbox", str(released)], "is no inbox: expected Ann"),
        (["restore", target], f"is no backup that is whole; there are {date}"),
        (["restore", f"{target}/2020-01-01T000000Z"], f"whole; there are {date}"),
        (["restore", f"{target}/{date}"], "give --repository, --inbox or both"),
        (["restore", f"{target}/{date}", "--inbox", f"{tmp_path}/i"], "made without --inbox"),
        (["restore", f"{target}/{date}", "--repository", str(released)], "a repository already"),
    ):
        assert main(words) == 1
        assert told in capsys.readouterr().err
    assert dates(target) == [date]
