"""Changes of a repository count once they have come to rest."""

import shutil
from pathlib import Path

import pytest

from serving.watch import Watch


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(f'name: "{name}"')
    return tmp_path


def test_empty_folder(tmp_path: Path) -> None:
    assert Watch(tmp_path).changes() == ([], [])


def test_nothing_changed(repository: Path) -> None:
    watch = Watch(repository)
    assert watch.changes() == ([], [])


def test_change_counts_when_two_looks_agree_and_once(repository: Path) -> None:
    watch = Watch(repository)
    (repository / "one" / "2").mkdir()
    (repository / "one" / "2" / "model.onnx").write_bytes(b"half")
    assert watch.changes() == ([], [])
    (repository / "one" / "2" / "model.onnx").write_bytes(b"a whole one")
    assert watch.changes() == ([], [])  # still in progress
    assert watch.changes() == (["one"], [])
    assert watch.changes() == ([], [])


def test_new_and_removed_models(repository: Path) -> None:
    watch = Watch(repository)
    shutil.copytree(repository / "one", repository / "three")
    shutil.rmtree(repository / "two")
    watch.changes()
    assert watch.changes() == (["three"], ["two"])


@pytest.mark.parametrize("name", ["one/1/__pycache__", "one/.hidden", ".publish-1"])
def test_caches_and_hidden_files_do_not_count(name: str, repository: Path) -> None:
    watch = Watch(repository)
    (repository / name).mkdir()
    (repository / name / "file").touch()
    assert [watch.changes(), watch.changes()] == [([], [])] * 2
