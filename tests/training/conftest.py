"""One rendered data set as records, and two logical CPUs to try several replicas on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny_training import backbone, start_trainer
from training.data import records_writer
from training.evaluation import report, summaries
from training.network import model
from training.render import smears

# Before TensorFlow starts: it cannot be split later.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session")
def records_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rendered smears, 8 to train and 4 to evaluate on."""
    folder = tmp_path_factory.mktemp("smears")
    assert smears.render_smears(smears.RenderSettings(folder / "voc", count=12, val=1 / 3)) == 0
    settings = records_writer.RecordsSettings(
        (folder / "voc",), folder / "records", labels=("RBC", "WBC", "Platelets"), shards=2
    )
    assert records_writer.write_records(settings) == 0
    return folder / "records"


@pytest.fixture(scope="module")
def tiny_network() -> Iterator[None]:
    """ssd_compact has few channels, for what does not depend on its size; no photos are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "compact", backbone)
        patch.setattr(report, "WORST", 0)
        patch.setattr(summaries, "WATCHED", 0)
        yield


@pytest.fixture(scope="session")
def tiny_training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Words that stand for `python -m training`, with a network that trains in milliseconds."""
    with start_trainer(tmp_path_factory.mktemp("trainer")) as words:
        yield words


@pytest.fixture
def two_replicas() -> tf.distribute.Strategy:
    """Both CPUs, with keys of their own.

    A process remembers of what type the all-reduce of a key was, and every strategy begins with the
    same key: those of two tests that sum other types would fail. TensorFlow's own tests do this.
    """
    tf.distribute.MirroredStrategy._collective_key_base += 1000
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def resumed_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Event files of a run that was resumed at step 20, and did steps 30 and 40 again."""
    folder = tmp_path_factory.mktemp("tensorboard")
    for part, steps in enumerate(([10, 20, 30, 40], [30, 40, 50])):
        writer = tf.summary.create_file_writer(str(folder), filename_suffix=f".{part}")
        with writer.as_default():
            for step in steps:
                tf.summary.scalar("train/loss", part + step / 100, step=step)
                tf.summary.scalar("train/learning_rate", 0.1, step=step)
            tf.summary.image("val/photo", np.zeros((1, 2, 2, 3), np.uint8), step=steps[0])
        writer.close()
    return folder
