import dataclasses
from pathlib import Path

import pytest
import tensorflow as tf

from training.data import records
from training.data.records import ManifestError, Shard
from training.input import random_access


def _manifest(folder: Path, contents: list[list[bytes]]) -> records.Manifest:
    """Shards that hold these records."""
    names = [f"train-{place}.tfrecord" for place in range(len(contents))]
    for name, items in zip(names, contents, strict=True):
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for item in items:
                writer.write(item)
    shards = tuple(Shard(name, (folder / name).stat().st_size, "") for name in names)
    return records.Manifest(folder, "train", sum(map(len, contents)), ("cell",), shards, "")


def test_each_record_is_found_and_read(tmp_path: Path) -> None:
    contents = [[b"", b"a" * 300_000], [], [b"last"]]
    places = random_access.find_examples(_manifest(tmp_path, contents))
    numbers = tf.data.Dataset.from_tensor_slices([2, 0, 1, 2])
    found = numbers.map(
        lambda number: random_access.read_example(places, number)
    ).as_numpy_iterator()
    assert list(found) == [b"last", b"", b"a" * 300_000, b"last"]


def test_other_records_than_the_manifest_says(tmp_path: Path) -> None:
    manifest = dataclasses.replace(_manifest(tmp_path, [[b"one"]]), count=2)
    with pytest.raises(ManifestError, match="expected 2 images in the split train, found 1"):
        random_access.find_examples(manifest)


@pytest.mark.parametrize("cut", [1, 17])
def test_a_record_that_is_cut_short(tmp_path: Path, cut: int) -> None:
    manifest = _manifest(tmp_path, [[b"one", b"two"]])
    path = Path(manifest.paths[0])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ManifestError, match=r"damaged at byte 19; write the records again"):
        random_access.find_examples(manifest)


def test_a_damaged_record_is_not_read(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path, [[b"one", b"two"]])
    path = Path(manifest.paths[0])
    path.write_bytes(path.read_bytes().replace(b"one", b"eno"))
    places = random_access.find_examples(manifest)
    assert random_access.read_example(places, tf.constant(1)).numpy() == b"two"
    with pytest.raises(tf.errors.DataLossError):
        random_access.read_example(places, tf.constant(0))
