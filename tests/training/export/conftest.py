"""Photos, and ssd_lite0, whose depthwise convolutions and ReLU6 no other network has."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.conftest import PROJECT
from training.data import records_writer
from training.export import export
from training.export.simplify import simplify
from training.network import model
from training.network.lite0_weights import load_lite0
from training.network.presets import SSD_COMPACT, SSD_LITE0


@pytest.fixture(scope="session")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX file, with ImageNet's backbone; Keras and ONNX Runtime agree on it within 1e-4."""
    network = model.build_network(SSD_LITE0, 2)
    load_lite0(network)
    folder = tmp_path_factory.mktemp("lite0")
    detector = model.Detector(network, SSD_LITE0, 50)
    export.write_artifact(folder, detector, SSD_LITE0, ("a", "b"), {"preset": "ssd_lite0"})
    return folder / "model.onnx"


@pytest.fixture(scope="session")
def as_converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of a ssd_compact as tf2onnx writes it; model.onnx beside it is simplified, and
    Keras and ONNX Runtime agree on that one."""
    network = model.build_network(SSD_COMPACT, 2)
    noise = np.random.default_rng(0)
    for variable in network.weights:  # no two alike, as after a training
        variable.assign(variable + noise.normal(0, 0.01, variable.shape))
    folder = tmp_path_factory.mktemp("as_converted")

    def keep_and_simplify(graph: onnx.ModelProto) -> None:
        onnx.save(graph, folder / "converted.onnx")
        simplify(graph)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "simplify", keep_and_simplify)
        detector = model.Detector(network, SSD_COMPACT, 50)
        export.write_artifact(folder, detector, SSD_COMPACT, ("a", "b"), {"preset": "ssd_compact"})
    return folder / "converted.onnx"


@pytest.fixture(scope="session")
def smears() -> list[np.ndarray]:
    """The four rendered smears as the network gets them."""
    photos = (cv2.imread(str(PROJECT / "samples" / f"smear-{n}.jpg")) for n in (1, 2, 3, 4))
    return [cv2.resize(photo[:, :, ::-1], (300, 300)) for photo in photos]


@pytest.fixture(scope="session")
def bccd_records(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public blood cell photos as records."""
    folder = tmp_path_factory.mktemp("bccd") / "records"
    settings = records_writer.RecordsSettings((test_data / "data" / "bccd",), folder)
    assert records_writer.write_records(settings) == 0
    return folder
