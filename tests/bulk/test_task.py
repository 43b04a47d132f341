import hashlib
import io
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bulk import task as task_module
from bulk.listing import Part
from bulk.rows import Counts
from bulk.settings import Network
from bulk.task import Done, detect_part
from client.errors import DeadlineExceeded, DetectorError, ServerUnavailable
from client.local.detector import LocalDetector
from serving.errors import StoreError
from serving.server.server import EmbeddedServer
from tests.bulk.conftest import make_task
from tests.conftest import PROJECT

NAMES = ["a.jpg", "more/b.JPG", "more/c.jpg"]


def test_a_part_without_photos(tmp_path: Path, tiny_repository: Path) -> None:
    task = make_task(tmp_path, tmp_path / "found", tiny_repository)
    assert detect_part(task, Part(0, [])) == Done(Counts(0, 0), fresh=True)


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_a_part_is_made_once_and_bad_photos_are_rows_with_an_error(
    where: str, photos: Path, tiny_repository: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (photos / "bad.jpg").write_bytes(b"no photo")
    source, output = str(photos), str(tmp_path / "found")
    if where == "s3":
        source, output = (f"{request.getfixturevalue('s3')}/{name}" for name in ("in", "out"))
        for name in (*NAMES, "bad.jpg"):
            task_module.open_place(source).create(name, (photos / name).read_bytes())
    task = make_task(source, output, tiny_repository)
    part = Part(7, [*NAMES, "bad.jpg", "gone.jpg"])
    assert detect_part(task, part) == Done(Counts(5, 2), fresh=True)
    first = task_module.open_place(output).find("part-000007.parquet")
    assert first is not None
    rows = pq.read_table(io.BytesIO(first)).to_pylist()
    assert [row["path"] for row in rows] == part.paths
    with LocalDetector(tiny_repository) as detector:
        expected = detector.detect(photos / "a.jpg")
    for row in rows[:3]:
        assert row["sha256"] == hashlib.sha256((photos / "a.jpg").read_bytes()).hexdigest()
        assert (row["width"], row["height"], row["model"]) == (640, 480, "ensemble")
        assert (row["version"], row["error"]) == ("1", None)
        assert row["labels"] == [each.label for each in expected.detections] != []
        assert row["scores"] == [each.score for each in expected.detections]
        box = expected.detections[0].box
        assert row["boxes"][0] == [box.x1, box.y1, box.x2, box.y2]
    assert rows[3]["error"] == "not an image (JPEG, PNG, BMP, WebP or TIFF expected)"
    assert "gone.jpg: no such " in rows[4]["error"]
    assert detect_part(task, part) == Done(Counts(5, 2), fresh=False)
    assert task_module.open_place(output).find("part-000007.parquet") == first


def test_a_file_of_another_run_is_not_taken_for_the_parts(
    photos: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    task = make_task(photos, tmp_path / "found", tiny_repository)
    detect_part(task, Part(0, NAMES))
    with pytest.raises(StoreError, match=r"part-000000\.parquet is damaged, or of another run"):
        detect_part(replace(task, listing="another"), Part(0, NAMES))


def test_a_worker_with_another_network_refuses(
    photos: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_repository, tmp_path / "models")
    task = make_task(photos, tmp_path / "found", tmp_path / "models")
    other = replace(task, network=Network(1, "f" * 64))
    with pytest.raises(DetectorError, match=r"holds another network \(1, sha256 .*copy the same"):
        detect_part(other, Part(0, NAMES))
    assert not (tmp_path / "found").exists()


def test_a_server_that_is_away_makes_no_file(photos: Path, tmp_path: Path) -> None:
    task = make_task(photos, tmp_path / "found", None, url="127.0.0.1:9", timeout=1.0)
    with pytest.raises(ServerUnavailable, match="no Triton server answers at 127"):
        detect_part(task, Part(0, NAMES))
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("enough", [False, True])
def test_a_few_failures_of_the_server_are_rows_and_many_end_the_part(
    enough: bool, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late:
        def detect(self, *_: object, **__: object) -> None:
            raise DeadlineExceeded("the image: no answer from nobody within 1 s (timeout)")

    monkeypatch.setattr(task_module, "_open_detector", lambda *_: Late())
    monkeypatch.setattr(task_module, "PATIENCE", 2 if enough else 3)
    task = make_task(photos, tmp_path / "found", None)
    if enough:
        with pytest.raises(DeadlineExceeded):
            detect_part(task, Part(0, NAMES))
        assert not (tmp_path / "found").exists()
    else:
        assert detect_part(task, Part(0, NAMES)).counts == Counts(3, 3)


@pytest.mark.slow
def test_the_server_finds_what_a_worker_finds_by_itself(
    photos: Path, tmp_path: Path, server: EmbeddedServer
) -> None:
    asked = make_task(photos, tmp_path / "asked", None, url=server.grpc_url)
    alone = make_task(photos, tmp_path / "alone", PROJECT / "model_repository")
    detect_part(asked, Part(0, NAMES))
    detect_part(alone, Part(0, NAMES))
    by_server, by_itself = (
        pq.read_table(tmp_path / name).drop_columns("version") for name in ("asked", "alone")
    )
    assert by_server.equals(by_itself)
