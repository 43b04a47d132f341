"""Changes of a repository count once they have come to rest."""

import shutil
import threading
import time
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.history import Record, Unfinished, write_record
from serving.model_config import list_version_numbers
from serving.repository import State
from serving.server import watch as module
from serving.server.watch import Changes, Watch
from serving.store.address import open_store


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDER_SECONDS", 0.0)
    monkeypatch.setattr(module, "STORE_SECONDS", 0.0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.onnx").write_bytes(b"first")
        (tmp_path / name / "config.pbtxt").write_text(f'name: "{name}"')
    return tmp_path


def begin(repository: Path | str) -> Watch:
    """A watch that takes what is there as known."""
    store = open_store(repository)
    watch = Watch(store)
    watch.begin(store.files(hidden=True))
    return watch


def look(watch: Watch) -> Changes:
    """The answer of one whole look."""
    changes = watch.changes()
    while watch._thread is not None:
        time.sleep(0.001)
        changes = watch.changes()
    return changes


def test_empty_folder(tmp_path: Path) -> None:
    assert look(begin(tmp_path)) == Changes()


def test_nothing_changed(repository: Path) -> None:
    assert look(begin(repository)) == Changes()


def test_change_counts_when_two_looks_agree_and_once(repository: Path) -> None:
    watch = begin(repository)
    (repository / "one" / "2").mkdir()
    (repository / "one" / "2" / "model.onnx").write_bytes(b"half")
    assert look(watch) == Changes()
    (repository / "one" / "2" / "model.onnx").write_bytes(b"a whole one")
    assert look(watch) == Changes()  # still in progress
    assert look(watch) == Changes(["one"], [], {"one": 2})
    assert look(watch) == Changes()
    assert watch.versions("one") == {1, 2}


def test_only_a_newer_version_has_arrived(repository: Path) -> None:
    (repository / "one" / "5").mkdir()
    (repository / "one" / "5" / "model.onnx").touch()
    watch = begin(repository)
    (repository / "one" / "4").mkdir()
    (repository / "one" / "4" / "model.onnx").touch()
    look(watch)
    assert look(watch) == Changes(["one"], [], {})


def test_new_and_removed_models(repository: Path) -> None:
    watch = begin(repository)
    shutil.copytree(repository / "one", repository / "three")
    shutil.rmtree(repository / "two")
    look(watch)
    assert look(watch) == Changes(["three"], ["two"], {"three": 1})


@pytest.mark.parametrize("name", ["one/1/__pycache__", "one/.hidden", ".publish-1"])
def test_caches_and_hidden_files_do_not_count(name: str, repository: Path) -> None:
    watch = begin(repository)
    (repository / name).mkdir()
    (repository / name / "file").touch()
    assert [look(watch), look(watch)] == [Changes()] * 2


def test_a_store_that_is_away_is_told_once_and_its_return_too(
    s3: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3).create(repository)
    watch = begin(s3)
    with monkeypatch.context() as away:
        away.setattr(watch, "_store", open_store("s3://127.0.0.1:9/bucket/models"))
        first = look(watch)
        assert first.trouble
        assert first.trouble.startswith("the store 127.0.0.1:9 cannot be reached")
        assert look(watch) == Changes()
    assert look(watch) == Changes(trouble="")
    assert look(watch) == Changes()
    open_store(s3).place("one/2", {"model.onnx": b"second"})
    look(watch)
    assert look(watch) == Changes(["one"], [], {"one": 2})


def test_a_folder_that_is_away_is_no_reason_to_unload_everything(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    aside = tmp_path_factory.mktemp("aside") / "models"
    watch = begin(repository)
    repository.rename(aside)
    gone = Changes(trouble=f"{repository} is gone or empty")
    assert [look(watch), look(watch), look(watch)] == [gone, Changes(), Changes()]
    aside.rename(repository)
    assert [look(watch), look(watch)] == [Changes(trouble=""), Changes()]


def test_the_caller_does_not_wait_for_the_store(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = begin(repository)
    hang = threading.Event()

    def files() -> dict[str, str]:
        hang.wait(0.5)
        return {}

    monkeypatch.setattr(watch._store, "files", files)
    began = time.monotonic()
    assert watch.changes() == watch.changes() == Changes()
    assert time.monotonic() - began < 0.3


def test_config(repository: Path) -> None:
    assert begin(repository).config("one") == ModelConfig(name="one")


def test_versions() -> None:
    assert list_version_numbers([]) == set()
    files = ["ssd/config.pbtxt", "ssd/1/model.onnx", "ssd/10/model.onnx", "ssd/tmp/model.onnx"]
    assert list_version_numbers(files) == {1, 10}


def test_configuration_is_the_servers_variant(repository: Path) -> None:
    (repository / "one" / "configs").mkdir()
    (repository / "one" / "configs" / "mine.pbtxt").write_text('name: "one" max_batch_size: 4')
    watch = Watch(open_store(repository), "mine")
    watch.begin(open_store(repository).files(hidden=True))
    assert watch.config("one").max_batch_size == 4
    assert watch.config("two").max_batch_size == 0
    assert watch.versions("one") == {1}
    (repository / "one" / "configs" / "mine.pbtxt").write_text('name: "one" max_batch_size: 16')
    assert look(watch) == Changes()
    assert look(watch) == Changes(["one"])


def test_nothing_counts_while_a_release_is_under_way(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its publisher tells the server what to load; what he did not tell it, counts afterwards."""
    watch, store = begin(repository), open_store(repository)
    unfinished = Unfinished(State(1), State(2), 2, "", {})
    write_record(store, "ensemble", Record(unfinished=unfinished))
    (repository / "one" / "config.pbtxt").write_text("# changed by the publisher")
    assert [look(watch) for _ in range(3)] == [Changes()] * 3
    write_record(store, "ensemble", Record(highest=2))
    assert look(watch).changed == ["one"]
    write_record(store, "ensemble", Record(unfinished=unfinished))
    (repository / "one" / "config.pbtxt").write_text("# changed by one that dies")
    assert [look(watch) for _ in range(3)] == [Changes()] * 3
    monkeypatch.setattr(module, "RELEASE_SECONDS", 0.0)
    assert look(watch).changed == ["one"]


def test_a_damaged_record_holds_nothing_up(repository: Path) -> None:
    watch = begin(repository)
    (repository / "releases.json").write_text("{")
    (repository / "one" / "config.pbtxt").write_text("# changed")
    assert look(watch) == Changes()
    assert look(watch).changed == ["one"]
