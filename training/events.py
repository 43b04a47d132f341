"""TensorBoard's event files of a run that continues."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf


def cut_after(folder: Path, step: int) -> None:
    """Removes what was recorded after `step`: the steps will be done, and recorded, again.

    A killed run has recorded steps after its last checkpoint; TensorBoard would draw both.
    """
    for path in folder.glob("events.out.tfevents.*"):
        _cut(path, step)


def _cut(path: Path, step: int) -> None:
    partial = path.with_name(f"partial.{path.name}")
    try:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for record in _records(path):
                if tf.compat.v1.Event.FromString(record).step <= step:
                    writer.write(record)
            writer.flush()  # `close` says nothing of a full disk
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _records(path: Path) -> Iterator[bytes]:
    """A file of a killed run may end within a record: that is its end."""
    with contextlib.suppress(tf.errors.DataLossError):
        yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
