"""The copy follows the store while that is there, and stays while it is away."""

import threading
from pathlib import Path

import pytest

from serving.errors import StoreError
from serving.store.address import open_store
from serving.store.mirror import Mirror
from tests.conftest import wait_until


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "models" / "ssd" / "1").mkdir(parents=True)
    (tmp_path / "models" / "ssd" / "1" / "model.onnx").write_bytes(b"first")
    (tmp_path / "models" / "ssd" / "config.pbtxt").write_text("first")
    return tmp_path / "models"


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_follows_changes(repository: Path, tmp_path: Path) -> None:
    mirror = Mirror(open_store(repository), tmp_path / "mirror", lambda line: None)
    mirror.update()
    assert files(mirror.folder) == files(repository)
    (repository / "ssd" / "config.pbtxt").unlink()
    (repository / "ssd" / "1" / "model.onnx").write_bytes(b"second")
    mirror.update()
    assert files(mirror.folder) == files(repository) == {"ssd/1/model.onnx": b"second"}


def test_each_change_is_a_second_younger(repository: Path, tmp_path: Path) -> None:
    """Triton compares whole seconds."""
    mirror = Mirror(open_store(repository), tmp_path / "mirror", lambda line: None)
    times = []
    for number in range(4):
        (repository / "ssd" / "config.pbtxt").write_text("changed" * number)
        mirror.update()
        times.append(int((mirror.folder / "ssd" / "config.pbtxt").stat().st_mtime))
    assert times == sorted(set(times))


def test_stays_while_the_store_is_away_and_says_so_once(repository: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    mirror = Mirror(open_store(repository), tmp_path / "mirror", lines.append)
    mirror.refresh()
    held = files(mirror.folder)
    repository.rename(tmp_path / "aside")
    repository.mkdir()  # a folder that is not mounted looks so
    for _ in range(3):
        mirror.refresh()
    assert (files(mirror.folder), mirror.away) == (held, True)
    repository.rmdir()
    mirror.refresh()
    assert files(mirror.folder) == held
    (tmp_path / "aside").rename(repository)
    mirror.refresh()
    assert not mirror.away
    assert lines == [
        f"going on with the last copy of {repository}: {repository} is gone or empty",
        f"{repository} is there again",
    ]


def test_what_cannot_be_fetched_whole_changes_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(repository)
    mirror = Mirror(store, tmp_path / "mirror", lambda line: None)
    mirror.update()
    held, read = files(mirror.folder), store.read

    def break_off(path: str) -> bytes:
        if path.endswith("model.onnx"):
            raise StoreError("away")
        return read(path)

    (repository / "ssd" / "config.pbtxt").write_text("changed")
    (repository / "ssd" / "1" / "model.onnx").write_text("changed")
    monkeypatch.setattr(store, "read", break_off)
    with pytest.raises(StoreError):
        mirror.update()
    assert files(mirror.folder) == held


def test_a_store_that_hangs_is_waited_for_once(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    mirror = Mirror(open_store(repository), tmp_path / "mirror", lines.append, patience=0.1)
    mirror.update()
    go_on = threading.Event()
    monkeypatch.setattr("serving.store.mirror.AWAY_PATIENCE", 0.1)
    monkeypatch.setattr(mirror, "update", go_on.wait)
    mirror.refresh()
    assert lines == [f"going on with the last copy of {repository}: it does not answer"]
    mirror.refresh()
    assert mirror.away
    go_on.set()
    wait_until(lambda: not mirror.away)


def test_in_a_hurry_a_store_that_hangs_is_left(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(open_store(repository), tmp_path / "mirror", lambda line: None)
    mirror.update()
    go_on = threading.Event()
    monkeypatch.setattr("serving.store.mirror.AWAY_PATIENCE", 0.1)
    monkeypatch.setattr(mirror, "update", go_on.wait)
    with mirror.hurry():
        mirror.refresh()
    assert mirror.away
    go_on.set()
    wait_until(lambda: not mirror.away)
    held = threading.Thread(target=mirror.refresh)  # which is there again: one waits for it
    go_on.clear()
    held.start()
    held.join(0.5)
    assert held.is_alive()
    go_on.set()
    held.join()


def test_looks_by_itself_once_started(repository: Path, tmp_path: Path) -> None:
    looked = threading.Event()
    mirror = Mirror(
        open_store(repository), tmp_path / "mirror", print, seconds=0.01, checked=looked.set
    )
    mirror.start()
    assert looked.wait(20)
    mirror.close()
    assert files(mirror.folder) == files(repository)
    (repository / "ssd" / "config.pbtxt").unlink()
    mirror.refresh()
    assert files(mirror.folder) != files(repository)
