"""What is written, and that half of it is none."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.training.data.smears import LABELS, write_records
from training.data import records, records_writer
from training.data.formats import voc
from training.data.problems import DataError


def replace_in_xml(folder: Path, image_id: str, old: str, new: str) -> Any:
    path = folder / f"Annotations/{image_id}.xml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_label_files(voc_folder: Any, output: Path) -> None:
    write_records(voc_folder, output)
    assert (output / "labels.txt").read_text() == "RBC\nWBC\nPlatelets\n"
    assert (
        records_writer.label_map(('say "a\\b"',))
        == 'item {\n  id: 1\n  name: "say \\"a\\\\b\\""\n}\n'
    )
    assert (output / "label_map.pbtxt").read_text() == records_writer.label_map(LABELS)


def test_bad_annotations_are_reported_and_left_out(
    folder: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_in_xml(folder, "smear-1", "<xmin>", "<xmin>9999")
    replace_in_xml(folder, "smear-2", "<name>RBC", "<name>blob")
    (folder / "JPEGImages/smear-3.jpg").write_bytes(b"no image")
    counts = [len(a.labels) for a in voc.Folder(folder).read("train", LABELS).annotations]
    assert write_records(folder, output) == 0
    out = capsys.readouterr().out
    assert "1 x zero area (image left out)" in out
    assert "Annotations/smear-2.xml, object" in out
    assert "JPEGImages/smear-3.jpg: does not decode" in out
    manifest = records.load_manifest(output, "train")
    found = {
        e["image_id"]: len(e["classes"]) for e in records.dataset(manifest).as_numpy_iterator()
    }
    assert sorted(found) == [b"smear-2", b"smear-4", b"smear-5"]
    assert sum(found.values()) == sum(counts)


def test_photo_that_is_lost_while_writing(folder: Path, output: Path) -> None:
    """It is left out and named; the others are written."""
    dataset = voc.Folder(folder).read("train", LABELS)
    (folder / "JPEGImages/smear-1.jpg").unlink()
    (folder / "JPEGImages/smear-2.jpg").write_bytes(b"no image")
    Image.new("RGB", (20, 10)).save(folder / "JPEGImages/smear-3.jpg")
    ((manifest, tally),) = records_writer.write_splits([dataset], output)
    assert manifest.count == 2
    found = [example["image_id"] for example in records.dataset(manifest).as_numpy_iterator()]
    assert sorted(found) == [b"smear-4", b"smear-5"]
    assert [problem.kind for problem in tally.problems] == ["bad image"] * 3
    assert "expected 160x120" in tally.problems[2].message


def test_same_input_gives_the_same_bytes(voc_folder: Any, output: Path, tmp_path: Path) -> None:
    write_records(voc_folder, output)
    write_records(voc_folder, tmp_path / "again")
    write_records(voc_folder, tmp_path / "one", shards=1)
    first = records.load_manifest(output, "train")
    assert (
        dataclasses.replace(records.load_manifest(tmp_path / "again", "train"), directory=output)
        == first
    )
    one = records.load_manifest(tmp_path / "one", "train")
    assert one.fingerprint == first.fingerprint
    for shard in first.shards:
        assert hashlib.sha256((output / shard.name).read_bytes()).hexdigest() == shard.sha256


def test_fingerprint_follows_the_content(folder: Path, output: Path, tmp_path: Path) -> None:
    write_records(folder, output)
    replace_in_xml(folder, "smear-1", "<difficult>0", "<difficult>1")
    write_records(folder, tmp_path / "changed")
    before, after = (records.load_manifest(p, "train") for p in (output, tmp_path / "changed"))
    assert before.fingerprint != after.fingerprint


def test_never_more_shards_than_images(voc_folder: Any, output: Path) -> None:
    write_records(voc_folder, output, shards=100)
    assert len(records.load_manifest(output, "val").shards) == 1
    assert len(records.load_manifest(output, "train").shards) == 5


def test_old_shards_do_not_stay_behind(voc_folder: Any, output: Path) -> None:
    write_records(voc_folder, output, shards=4)
    write_records(voc_folder, output, shards=2)
    names = {path.name for path in output.glob("train-*")}
    assert names == {shard.name for shard in records.load_manifest(output, "train").shards}


def test_labels_are_those_of_all_splits(folder: Path, output: Path) -> None:
    """A class that only val has is a class of train too."""
    for image_id in ("smear-1", "smear-6"):
        (folder / f"Annotations/{image_id}.xml").write_text("<annotation/>", encoding="utf-8")
    path = folder / "Annotations/smear-6.xml"
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    text = f"<object><name>rare</name><bndbox>{box}</bndbox></object>"
    path.write_text(f"<annotation>{text}</annotation>", encoding="utf-8")
    assert write_records(folder, output, labels=()) == 0
    train, val = (records.load_manifest(output, split).labels for split in ("train", "val"))
    assert train == val
    assert train[0] == "RBC"
    assert train[-1] == "rare"


def test_split_with_other_labels_is_not_mixed_in(voc_folder: Any, output: Path) -> None:
    write_records(voc_folder, output)
    with pytest.raises(DataError, match="was written with the labels RBC, WBC, Platelets"):
        write_records(voc_folder, output, splits=("val",), labels=("WBC", "RBC"))
    assert write_records(voc_folder, output, labels=("WBC", "RBC")) == 0
    assert records.load_manifest(output, "train").labels == ("WBC", "RBC")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("moment", range(6))
def test_killed_while_publishing(
    folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Whatever file it dies at, a split is whole, or `load_manifest` refuses it."""
    write_records(folder, output, splits=("train",), shards=3)
    replace_in_xml(folder, "smear-1", "<difficult>0", "<difficult>1")
    replace = type(output).replace
    calls: list[Path] = []

    def die_at(self: Path, target: Path) -> Path:
        if len(calls) == moment:
            raise Killed
        calls.append(target)
        return replace(self, target)

    monkeypatch.setattr(type(output), "replace", die_at)
    with pytest.raises(Killed):
        write_records(folder, output, splits=("train",), shards=3)
    monkeypatch.undo()
    with pytest.raises(records.ManifestError, match=r"train.json is missing.*write them with"):
        records.load_manifest(output, "train")
    assert write_records(folder, output, splits=("train",), shards=3) == 0
    assert records.load_manifest(output, "train").count == 5


def test_killed_while_writing_leaves_the_older_split(
    voc_folder: Any, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(voc_folder, output)
    before = records.load_manifest(output, "train")
    leftover = output / ".partial-killed"
    leftover.mkdir()
    (leftover / "train-00000-of-00004.tfrecord").write_bytes(b"half")

    def die(annotation: Any, max_side: int, tile: int) -> Any:
        raise Killed

    monkeypatch.setattr(records_writer, "stored_pictures", die)
    with pytest.raises(Killed):
        write_records(voc_folder, output)
    assert records.load_manifest(output, "train") == before
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": 0}, "expected 1 shard or more, found 0"),
        ({"max_side": 100}, "--max-side: expected 0, or 300 or more, found 100"),
        ({"tile": 64}, "tiles of 64 pixels are smaller than the network's input, 300, and would"),
        ({"splits": ("test",)}, "no split test; splits here: train, val, trainval"),
    ],
)
def test_what_cannot_be_written(
    voc_folder: Any, output: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_records(voc_folder, output, **changes)
    assert not list(output.parent.rglob("*.tfrecord"))


def test_folders_that_cannot_be_written(folder: Path, output: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no layout that is known here"):
        write_records(folder / "ImageSets", output)
    with pytest.raises(FileExistsError):
        write_records(folder, folder / "Annotations/smear-1.xml")
    for path in (folder / "JPEGImages").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no usable image or no class"):
        write_records(folder, output)
    assert not list(tmp_path.rglob("*.tfrecord"))
