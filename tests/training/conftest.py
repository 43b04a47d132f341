"""One rendered data set as records, and two logical CPUs to try several replicas on."""

from pathlib import Path

import pytest
import tensorflow as tf

from training.data import records
from training.render import smears

# Before TensorFlow starts: it cannot be split later.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session")
def records_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rendered smears, 8 to train and 4 to evaluate on."""
    folder = tmp_path_factory.mktemp("smears")
    assert smears.run(smears.RenderSettings(folder / "voc", count=12, val=1 / 3)) == 0
    settings = records.RecordsSettings(
        (folder / "voc",), folder / "records", labels=("RBC", "WBC", "Platelets"), shards=2
    )
    assert records.run(settings) == 0
    return folder / "records"
