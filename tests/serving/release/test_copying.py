"""A copy is a backup, if what it brings back is what was lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import Detector
from serving.__main__ import main
from serving.errors import StoreError
from serving.history import read_record
from serving.release.publish import PublishSettings, publish
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from serving.store.objects import ObjectStore
from tests.serving.test_artifact import flip_a_bit


@pytest.fixture
def released(tiny_repository: Path, make_artifact: Callable[..., Path]) -> Path:
    """A repository with a version that was published."""
    settings: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}
    publish(PublishSettings(artifact=make_artifact(), repository=str(tiny_repository), **settings))
    return tiny_repository


def contents(address: str | Path) -> dict[str, bytes]:
    store = open_store(address)
    return {path: store.read(path) for path in store.files(hidden=True)}


def test_to_a_bucket_and_back_into_service(released: Path, s3: str, tmp_path: Path) -> None:
    restored = tmp_path / "restored"
    assert main(["copy", str(released), s3]) == 0
    assert main(["copy", s3, str(restored)]) == 0
    assert contents(restored) == contents(s3) == contents(released)
    assert read_record(open_store(restored), "ensemble").lived == [1, 2]
    with EmbeddedServer(ServerSettings(restored)) as server, Detector(server.grpc_url) as detector:
        assert len(detector.detect(Path("samples/smear-1.jpg")).detections) == 1


def test_a_copy_that_was_killed_is_completed_by_the_next(
    released: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, left = ObjectStore._put, iter(range(4))

    def dies(store: ObjectStore, path: str, data: bytes) -> None:
        if next(left, None) is None:
            raise StoreError("the end of it")
        put(store, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "_put", dies)
        assert main(["copy", str(released), s3]) == 1
    assert 0 < len(contents(s3)) < len(contents(released))
    assert main(["copy", str(released), s3]) == 0
    assert contents(s3) == contents(released)


def test_what_is_not_copied(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for source, target, told in (
        (tmp_path / "empty", tmp_path / "new", "is no model repository: it has no ensemble"),
        (released, released, "is a repository already: name a place that is empty"),
    ):
        assert main(["copy", str(source), str(target)]) == 1
        assert told in capsys.readouterr().err
    flip_a_bit(released / "ssd" / "2" / "model.onnx")
    assert main(["copy", str(released), str(tmp_path / "new")]) == 1
    assert "is not the file that was published" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nobody_releases_meanwhile(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(released).lock("publish"):
        assert main(["copy", str(released), str(tmp_path / "new")]) == 1
    assert "is being changed by" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
