"""How often images of rare classes come, and what their objects count."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.smears import write_voc
from training import train
from training.data import records, records_writer
from training.data.problems import DataError
from training.input.rare_classes import Rarity, class_weights, plan_rarity, repeat_factors
from training.settings import TrainSettings


def test_repeat_factors_are_the_papers() -> None:
    """A class in one of ten images, threshold 0.4: sqrt(0.4 / 0.1) is 2."""
    common, rare = np.array([0, 0, 0]), np.array([0, 1])
    classes = [rare, np.zeros(0, int), *[common] * 8]
    np.testing.assert_allclose(repeat_factors(classes, 2, 0.4), [2, *[1] * 9])
    np.testing.assert_allclose(repeat_factors(classes, 2, 0.1), [1] * 10)
    assert repeat_factors([np.zeros(0, int)] * 3, 2, 1.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("power", "ratio"), [(1.0, 100), (0.5, 10)])
def test_class_weights_have_a_mean_of_one_over_objects(power: float, ratio: float) -> None:
    counts = np.array([1000, 10])
    weights = class_weights(counts, power)
    np.testing.assert_allclose(weights[1] / weights[0], ratio, rtol=1e-5)
    np.testing.assert_allclose((weights * counts).sum(), counts.sum(), rtol=1e-5)
    assert weights.dtype == np.float32


@pytest.fixture
def manifest(tmp_path: Path) -> records.Manifest:
    """Three images of a cell, one of a blob; what val alone has is a label, too."""
    names = {"d": "blob", "e": "dust"}
    folder = write_voc(tmp_path / "voc", {"train": list("abcd"), "val": ["e"]}, names)
    settings = records_writer.RecordsSettings((folder,), tmp_path / "records")
    assert records_writer.write_records(settings) == 0
    return records.load_manifest(tmp_path / "records", "train")


def test_what_is_read_of_a_split(manifest: records.Manifest, tmp_path: Path) -> None:
    assert plan_rarity(manifest, 0, 0) == Rarity()  # and nothing is read
    with pytest.raises(DataError, match="dust has no object in train, so --repeat-rare cannot"):
        plan_rarity(manifest, 0.5, 0)
    settings = TrainSettings(tmp_path / "records", tmp_path / "run", weigh_rare=0.5)
    with pytest.raises(DataError, match="annotate some, or leave the class out with `python"):
        train.train_detector(settings)
    assert not (tmp_path / "run").exists()
    two = dataclasses.replace(manifest, labels=manifest.labels[:2])
    rarity = plan_rarity(two, 1.0, 1.0)
    assert rarity.repeats is not None
    assert rarity.weights is not None
    stored = [e["classes"][0] for e in records.dataset(two).as_numpy_iterator()]
    blob = two.labels.index("blob")
    wanted = np.where(np.array(stored) == blob, 2.0, np.sqrt(4 / 3))
    np.testing.assert_allclose(rarity.repeats, wanted)
    np.testing.assert_allclose(sorted(rarity.weights), [2 / 3, 2], rtol=1e-6)
