"""TensorBoard's event files of a run that continues."""

import contextlib
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
    with tf.io.TFRecordWriter(str(partial)) as writer, contextlib.suppress(tf.errors.DataLossError):
        # A file of a killed run may end within a record: that is its end.
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            if tf.compat.v1.Event.FromString(record).step <= step:
                writer.write(record)
    partial.replace(path)
