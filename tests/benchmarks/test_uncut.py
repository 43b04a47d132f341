"""A network that hands over all of SSD300's boxes, and a repository made for it."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks import uncut
from tests.conftest import PROJECT

REPOSITORY = PROJECT / "model_repository"


@pytest.mark.parametrize("batch", [1, 3])
def test_network_answers_the_same_for_every_image(batch: int) -> None:
    boxes, scores = uncut.random_boxes()
    session = onnxruntime.InferenceSession(uncut.network(boxes, scores).SerializeToString())
    images = np.zeros((batch, uncut.SIDE, uncut.SIDE, 3), np.uint8)
    found = session.run(["boxes", "scores"], {"images": images})
    np.testing.assert_array_equal(found[0], np.stack([boxes] * batch))
    np.testing.assert_array_equal(found[1], np.stack([scores] * batch))


def test_boxes_are_in_the_image_and_few_are_candidates() -> None:
    boxes, scores = uncut.random_boxes()
    assert boxes.shape == (8732, 4)
    assert scores.shape == (8732, 20)
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (scores > 0.5).sum() == uncut.CANDIDATES


def test_configurations_get_the_sizes(tmp_path: Path) -> None:
    repository = Path(shutil.copytree(REPOSITORY, tmp_path / "models"))
    uncut.resize(repository)
    for path in ("ssd/config.pbtxt", "postprocess/config.pbtxt", "ssd/configs/gpu.pbtxt"):
        config = text_format.Parse((repository / path).read_text(), ModelConfig())
        tensors = {each.name: list(each.dims) for each in [*config.input, *config.output]}
        assert tensors["boxes"] == [8732, 4]
        assert tensors["scores"] == [8732, 20]
    assert len((repository / "postprocess/labels.txt").read_text().splitlines()) == 20
