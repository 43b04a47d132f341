import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.serving.tiny_network import network as tiny_network
from tests.training.networks import SHIPPED
from training.errors import TrainingError
from training.network import onnx_network


def test_a_network_says_what_it_is() -> None:
    network = onnx_network.load_onnx(SHIPPED)
    assert network.labels == ("RBC", "WBC", "Platelets")
    assert (network.input_size, network.resize) == (300, "stretch")  # of before it was said
    assert network.rows(np.zeros((2, 300, 300, 3), np.uint8)).shape == (2, 400, 7)


def test_metadata_comes_back() -> None:
    model = tiny_network(32, 5, 2)
    onnx_network.set_metadata(model, {"labels": ["a", "b"], "preset": "tiny"})
    onnx_network.set_metadata(model, {"labels": ["b", "a"]})
    assert onnx_network.load_onnx(model.SerializeToString()).labels == ("b", "a")
    assert json.loads(model.metadata_props[0].value) == ["b", "a"]
    assert len(model.metadata_props) == 1
    onnx_network.set_metadata(model, {"labels": ["a", "b"], "resize": "letterbox"})
    assert onnx_network.load_onnx(model.SerializeToString()).resize == "letterbox"


def test_what_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(TrainingError, match="no such file"):
        onnx_network.load_onnx(path)
    path.write_bytes(b"photo")
    with pytest.raises(TrainingError, match=r"no model\.onnx of `training export`"):
        onnx_network.load_onnx(path)
    onnx.save(tiny_network(32, 5, 2), path)  # without labels
    with pytest.raises(TrainingError, match=r"no model\.onnx of `training export`"):
        onnx_network.load_onnx(path)


def test_row_difference_sees_a_moved_box() -> None:
    rows = np.random.default_rng(0).random((20, 7))
    other = rows[::-1].copy()
    assert onnx_network.row_difference(rows, other, slack=1e-4) == 0.0
    other[3, 0] += 0.01
    assert onnx_network.row_difference(rows, other, slack=1e-4) == pytest.approx(0.01)


def test_difference_of_what_is_no_number() -> None:
    rows = np.random.default_rng(0).random((2, 20, 7))
    other = rows.copy()
    other[1] = np.nan
    assert not onnx_network.difference(rows, other, slack=1e-4) <= 1.0
