import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from training import fit, train
from training.data import records
from training.errors import TrainingError
from training.evaluation import outcomes
from training.fitted_boxes import load_fitted
from training.network import boxes
from training.network.default_boxes import boxes_per_cell, default_boxes
from training.network.presets import (
    PRESETS,
    SSD300_VGG16,
    SSD_COMPACT,
    Preset,
    Resize,
    set_input_size,
)
from training.settings import TrainSettings

RESIZES: tuple[Resize, ...] = ("stretch", "letterbox")
SIZES = np.repeat([[0.05, 0.07], [0.2, 0.2], [0.4, 0.5]], 20, axis=0)


def _settings(records_folder: Path, output: Path, count: int | None = None) -> fit.FitSettings:
    return fit.FitSettings(records_folder, output / "boxes.json", count=count)


def test_shape_iou_of_known_pairs() -> None:
    found = fit.shape_iou(np.array([[2.0, 1.0]]), np.array([[1.0, 2.0], [2.0, 1.0], [4.0, 2.0]]))
    np.testing.assert_allclose(found, [[1 / 3, 1.0, 0.25]])


def test_clusters_are_found() -> None:
    noisy = SIZES * np.random.default_rng(0).uniform(0.95, 1.05, SIZES.shape)
    centres = min(
        (fit.cluster_sizes(noisy, 3, np.random.default_rng(seed)) for seed in range(5)),
        key=lambda centres: -fit.shape_iou(noisy, centres).max(axis=1).mean(),
    )
    np.testing.assert_allclose(centres, SIZES[::20], rtol=0.03)


def test_fewer_sizes_than_clusters() -> None:
    assert len(fit.cluster_sizes(SIZES[:40], 9, np.random.default_rng(0))) == 2


def _anywhere(least: float, most: float, count: int = 200) -> np.ndarray:
    """Objects with sides of least to most, anywhere in the image, xyxy, 0..1: [count, 4]."""
    rng = np.random.default_rng(0)
    sizes = rng.uniform(least, most, (count, 2))
    low = rng.random((count, 2)) * (1 - sizes)
    return np.concatenate([low, low + sizes], axis=1).astype(np.float32)


def _shape_of(objects_xyxy: np.ndarray) -> tuple[int, ...]:
    fitted = fit.fit_preset(objects_xyxy, SSD_COMPACT, None, seed=0)
    assert fitted.box_shapes
    return tuple(map(len, fitted.box_shapes))


def test_boxes_go_to_maps_of_their_size() -> None:
    assert sum(_shape_of(_anywhere(0.02, 0.03))[1:]) == 0
    assert sum(_shape_of(_anywhere(0.9, 0.95))[:3]) == 0


@pytest.mark.parametrize(
    ("side", "places"), [(0.01, [0]), (0.1, [0, 1]), (1.0, [3, 4]), (9.0, [5])]
)
def test_maps_that_fit_a_size(side: float, places: list[int]) -> None:
    assert fit.fitting_maps(side, SSD_COMPACT) == places


@pytest.mark.parametrize(
    "objects_xyxy",
    [
        _anywhere(0.35, 0.6),  # whose shapes lay too far apart on a coarse map
        _anywhere(0.01, 0.04),
        _anywhere(0.05, 0.95),
        np.array([[0.0, 0.0, 1.0, 1.0]], np.float32),
    ],
    ids=["large", "small", "all sizes", "the whole image"],
)
def test_fitted_boxes_cover_more_in_place(objects_xyxy: np.ndarray) -> None:
    fitted = fit.fit_preset(objects_xyxy, SSD_COMPACT, None, seed=0)
    before, after = (fit.coverage(objects_xyxy, x).mean() for x in (SSD_COMPACT, fitted))
    assert after > before


def test_the_presets_boxes_where_no_others_cover_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MOST_CLUSTERS", 1)
    assert fit.fit_preset(_anywhere(0.05, 0.95), SSD_COMPACT, None, seed=0) is SSD_COMPACT


def test_too_few_boxes_are_refused(records_folder: Path, tmp_path: Path) -> None:
    settings = _settings(records_folder, tmp_path, count=1)
    with pytest.raises(TrainingError, match="--count 1: that many shapes cover the objects worse"):
        fit.fit_default_boxes(settings)
    assert not settings.output.exists()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_coverage_is_that_of_all_default_boxes(preset: Preset) -> None:
    """The nearest box of each shape is enough: all 8,732 give no better IoU."""
    objects_xyxy = _anywhere(0.02, 0.9, count=50)
    grid_xyxy = boxes.to_xyxy(default_boxes(preset)).numpy()
    wanted = outcomes.iou(objects_xyxy, grid_xyxy).max(axis=1)
    np.testing.assert_allclose(fit.coverage(objects_xyxy, preset), wanted, atol=1e-5)


def test_coverage_of_boxes_that_are_there() -> None:
    """An object that is a default box is covered whole; half a cell off it is not."""
    preset = dataclasses.replace(SSD_COMPACT, box_shapes=(((0.2, 0.2),), (), (), (), (), ()))
    centre = default_boxes(preset)[700, :2]
    exact = np.array([[*(centre - 0.1), *(centre + 0.1)]])
    assert fit.coverage(exact, preset) == pytest.approx([1.0], abs=1e-5)
    assert 0.7 < fit.coverage(exact + 0.5 / 38, preset)[0] < 0.9


def test_fitted_boxes_cover_better_and_train(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's file goes through `train` into the run folder, hence into the artifact."""
    settings = _settings(records_folder, tmp_path)
    assert fit.fit_default_boxes(settings) == 0
    lines = capsys.readouterr().out.splitlines()
    before, after = (float(line.split()[-2]) for line in lines[2:4])
    assert after > before + 0.02
    of_class = r"  (RBC|WBC|Platelets) +\d+ objects  0\.\d{3} -> 0\.\d{3}"
    assert all(re.fullmatch(of_class, line) for line in lines[4:7])
    preset = load_fitted(settings.output, SSD_COMPACT)
    assert sum(boxes_per_cell(preset)) >= 3
    with pytest.raises(TrainingError, match="multiple"):  # gets as far as the devices
        train.train_detector(
            TrainSettings(
                records_folder, tmp_path / "run", preset="ssd_compact",
                default_boxes=settings.output, batch_size=3, logical_cpus=2,
            )
        )  # fmt: skip


def test_no_objects(records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit.records, "dataset", lambda _: EmptyDataset())
    with pytest.raises(TrainingError, match="no object in the split train"):
        fit.fit_default_boxes(_settings(records_folder, tmp_path))


class EmptyDataset:
    """A split whose one image has no boxes."""

    def as_numpy_iterator(self) -> list[dict[str, np.ndarray]]:
        return [{"boxes_xyxy": np.zeros((0, 4), np.float32), "classes": np.zeros(0, np.int32)}]


def test_count_out_of_range(records_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--count must be 1 or more, got 0"):
        fit.fit_default_boxes(_settings(records_folder, tmp_path, count=0))


def test_boxes_for_the_papers_preset(records_folder: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(_settings(records_folder, tmp_path), preset="ssd300_vgg16")
    assert fit.fit_default_boxes(settings) == 0
    assert load_fitted(settings.output, SSD300_VGG16).box_shapes is not None


def test_boxes_of_letterboxed_photos_are_smaller_in_height(
    records_folder: Path, tmp_path: Path
) -> None:
    """Photos of 4:3: 80 of 640 pixels are grey above and below."""
    manifest = records.load_manifest(records_folder, "train")
    stretched, letterboxed = (fit.find_objects(manifest, x).boxes_xyxy for x in RESIZES)
    np.testing.assert_allclose(letterboxed[:, [0, 2]], stretched[:, [0, 2]], atol=1e-6)
    np.testing.assert_allclose(
        letterboxed[:, [1, 3]], stretched[:, [1, 3]] * 0.75 + 0.125, atol=1e-6
    )
    settings = dataclasses.replace(_settings(records_folder, tmp_path), resize="letterbox")
    assert fit.fit_default_boxes(settings) == 0
    with pytest.raises(TrainingError, match="--resize letterbox, not for 300 and stretch"):
        load_fitted(settings.output, SSD_COMPACT)


def test_a_larger_input_has_other_maps(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(_settings(records_folder, tmp_path), input_size=416)
    assert fit.fit_default_boxes(settings) == 0
    assert "52x52" in capsys.readouterr().out
    with pytest.raises(TrainingError, match="for --input-size 416 --resize stretch, not for 300"):
        load_fitted(settings.output, SSD_COMPACT)
    assert load_fitted(settings.output, set_input_size(SSD_COMPACT, 416)).box_shapes is not None
