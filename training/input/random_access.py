"""Any example of a split by its number: where each lies in its shard, and reading that one alone.

TFRecord files have no index, but each record begins with its length (TensorFlow,
"TFRecord and tf.train.Example", "TFRecords format details"): uint64 length, uint32 checksum of it,
the bytes, uint32 checksum of them. So 16 bytes a record are read once to find all.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from training.data.records import Manifest, ManifestError

_HEADER, _FRAME = 12, 16  # bytes before a record's content, and in all around it


@dataclass(frozen=True)
class Places:
    """Of each example its shard's place in `paths`, its first byte, its bytes: int64 [N] each."""

    paths: list[str]
    shards: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray


def find_examples(manifest: Manifest) -> Places:
    """The places of all examples, in the records' order.

    Raises:
        ManifestError: a shard is not what its manifest says.
    """
    rows = [
        (shard, *record)
        for shard, path in enumerate(manifest.paths)
        for record in _records(Path(path))
    ]
    if len(rows) != manifest.count:
        raise ManifestError(
            f"{manifest.directory}: expected {manifest.count} images in the split "
            f"{manifest.split}, found {len(rows)}; write the records again"
        )
    return Places(manifest.paths, *np.array(rows, np.int64).reshape(-1, 3).T)


def _records(path: Path) -> Iterator[tuple[int, int]]:
    """First byte and bytes of each record of a file."""
    end, offset = path.stat().st_size, 0
    with path.open("rb", buffering=0) as file:
        while offset < end:
            file.seek(offset)
            header = file.read(_HEADER)
            size = struct.unpack_from("<Q", header)[0] + _FRAME if len(header) == _HEADER else end
            if offset + size > end:
                raise ManifestError(f"{path}: damaged at byte {offset}; write the records again")
            yield offset, size
            offset += size


def read_example(places: Places, number: tf.Tensor) -> tf.Tensor:
    """One serialised example, its checksums looked at: a string scalar."""
    shard, offset, size = (
        tf.gather(values, number) for values in (places.shards, places.offsets, places.sizes)
    )
    record = tf.raw_ops.TFRecordDatasetV2(
        filenames=tf.gather(places.paths, shard)[None],
        compression_type="",
        buffer_size=size,  # so that it is read at once, and nothing behind it
        byte_offsets=offset[None],
    )
    examples = tf.data.experimental.from_variant(record, tf.TensorSpec([], tf.string))
    return examples.take(1).get_single_element()
