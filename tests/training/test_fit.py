import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from training import fit, train
from training.default_boxes import boxes_per_cell, default_boxes
from training.errors import TrainingError
from training.presets import SSD300_VGG16, SSD_COMPACT

SIZES = np.repeat([[0.05, 0.07], [0.2, 0.2], [0.4, 0.5]], 20, axis=0)


def _settings(records_folder: Path, output: Path, count: int = 6) -> fit.FitSettings:
    return fit.FitSettings(records_folder, output / "boxes.json", count=count)


def test_shape_iou_of_known_pairs() -> None:
    found = fit.shape_iou(np.array([[2.0, 1.0]]), np.array([[1.0, 2.0], [2.0, 1.0], [4.0, 2.0]]))
    np.testing.assert_allclose(found, [[1 / 3, 1.0, 0.25]])


def test_clusters_are_found() -> None:
    noisy = SIZES * np.random.default_rng(0).uniform(0.95, 1.05, SIZES.shape)
    centres = min(
        (fit.k_means(noisy, 3, np.random.default_rng(seed)) for seed in range(5)),
        key=lambda centres: -fit.shape_iou(noisy, centres).max(axis=1).mean(),
    )
    np.testing.assert_allclose(centres, SIZES[::20], rtol=0.03)


def test_fewer_sizes_than_clusters() -> None:
    assert len(fit.k_means(SIZES[:40], 9, np.random.default_rng(0))) == 2


def test_small_boxes_go_to_fine_maps() -> None:
    shapes = fit.fit(SIZES, SSD_COMPACT, 3, seed=0)
    assert [len(pairs) for pairs in shapes] == [1, 1, 1, 0, 0, 0]
    assert shapes[0] == ((0.05, 0.07),)


def test_coverage_of_boxes_that_are_there() -> None:
    """An object that is a default box is covered whole; half a cell off it is not, in place."""
    preset = dataclasses.replace(SSD_COMPACT, box_shapes=(((0.2, 0.2),), (), (), (), (), ()))
    centre = default_boxes(preset)[700, :2]
    exact = np.array([[*(centre - 0.1), *(centre + 0.1)]])
    assert fit.coverage(exact, preset) == pytest.approx((1.0, 1.0), abs=1e-5)
    shape, place = fit.coverage(exact + 0.5 / 38, preset)
    assert shape == pytest.approx(1.0, abs=1e-5)
    assert 0.7 < place < 0.9


def test_fitted_boxes_cover_better_and_train(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's file goes through `train` into the run folder, hence into the artifact."""
    settings = _settings(records_folder, tmp_path)
    assert fit.run(settings) == 0
    before, after = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[2:4])
    assert after > before + 0.02
    preset = fit.load(settings.output, SSD_COMPACT)
    assert sum(boxes_per_cell(preset)) == 6
    with pytest.raises(TrainingError, match="multiple"):  # gets as far as the devices
        train.run(
            train.TrainSettings(
                records_folder, tmp_path / "run", default_boxes=settings.output,
                batch_size=3, logical_cpus=2,
            )
        )  # fmt: skip


def test_no_objects(records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit.records, "dataset", lambda _: EmptyDataset())
    with pytest.raises(TrainingError, match="no object in the split train"):
        fit.run(_settings(records_folder, tmp_path))


class EmptyDataset:
    """A split whose one image has no boxes."""

    def as_numpy_iterator(self) -> list[dict[str, np.ndarray]]:
        return [{"boxes_xyxy": np.zeros((0, 4), np.float32)}]


def test_count_out_of_range(records_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--count must be 1 or more, got 0"):
        fit.run(_settings(records_folder, tmp_path, count=0))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "no default boxes"),
        ({"preset": "ssd_compact"}, "no default boxes"),
        ({"preset": "ssd_compact", "box_shapes": [[], [], [], [], [], []]}, "no default boxes"),
        ({"preset": "ssd_compact", "box_shapes": [[[0.1, -1]]] * 6}, "no default boxes"),
        ({"preset": "ssd_compact", "box_shapes": [[[0.1, 0.1]]]}, "not for ssd_compact"),
        ({"preset": "ssd300_vgg16", "box_shapes": [[[0.1, 0.1]]] * 6}, "for the preset ssd300"),
    ],
)
def test_a_file_that_is_none(document: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    with pytest.raises(TrainingError, match=message):
        fit.load(path, SSD_COMPACT)


def test_boxes_for_the_papers_preset(records_folder: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(_settings(records_folder, tmp_path), preset="ssd300_vgg16")
    assert fit.run(settings) == 0
    assert fit.load(settings.output, SSD300_VGG16).box_shapes is not None
