from pathlib import Path

import pytest
import tensorflow as tf

from training import events


def _write(folder: Path, steps: range) -> None:
    with tf.summary.create_file_writer(str(folder)).as_default():
        for step in steps:
            tf.summary.scalar("loss", 1.0 / step, step=step)


def _steps(folder: Path) -> list[int]:
    found = []
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            found += [event.step] * len(event.summary.value)
    return sorted(found)


def test_nothing_to_cut(tmp_path: Path) -> None:
    events.cut_after(tmp_path / "none", 3)


def test_later_steps_go_from_all_files(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 4))
    _write(tmp_path, range(4, 8))
    assert _steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    events.cut_after(tmp_path, 5)
    assert _steps(tmp_path) == [1, 2, 3, 4, 5]


def test_a_file_that_ends_within_a_record(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 4))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    events.cut_after(tmp_path, 9)
    assert _steps(tmp_path) == [1, 2]


def test_of_a_step_done_twice_the_later_counts(resumed_events: Path) -> None:
    scalars = events.read_scalars(resumed_events)
    assert set(scalars) == {"train/loss", "train/learning_rate"}
    steps, values = scalars["train/loss"]
    assert steps.tolist() == [10, 20, 30, 40, 50]
    assert values.tolist() == pytest.approx([0.1, 0.2, 1.3, 1.4, 1.5])
