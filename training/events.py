"""TensorBoard's event files of a run that continues."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def cut_after(folder: Path, step: int) -> None:
    """Remove what was recorded after `step`: the steps will be done, and recorded, again.

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


def read_scalars(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every scalar of a run's event files: steps int [N], rising, and values float [N].

    A resumed run does some steps again; of each step the value that was written last counts.
    """
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}, purge_orphaned_data=False)
    events.Reload()
    scalars = {}
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name != "scalars":
            continue
        rows = sorted(events.Tensors(tag), key=lambda event: event.wall_time)
        values = {row.step: float(tf.make_ndarray(row.tensor_proto)) for row in rows}
        steps = sorted(values)
        scalars[tag] = np.array(steps), np.array([values[step] for step in steps])
    return scalars
