"""Which photos each order of the benchmark of selection is trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import selection
from training.data.annotations import Annotation, Dataset
from training.labelling.select import SelectSettings

LABELS = ("RBC",)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Twelve photos, of which nothing but their names is looked at."""
    photos = tuple(annotate(tmp_path, number) for number in range(12))
    return Dataset("here", "train", LABELS, photos, ())


def annotate(folder: Path, number: int) -> Annotation:
    path = folder / f"{number:02}.jpg"
    path.touch()
    no = np.zeros(0, bool)
    return Annotation(path.stem, path, 8, 8, np.zeros((0, 4), np.float32), (), no, no)


def take_the_last(settings: SelectSettings) -> None:
    """What `training select` leaves: numbered copies, here of the last photos of the pool."""
    (settings.output / "JPEGImages").mkdir(parents=True)
    pool = sorted(settings.photos.iterdir(), reverse=True)
    for rank, photo in enumerate(pool[: settings.count]):
        (settings.output / "JPEGImages" / f"{rank:03}-{photo.name}").touch()


def test_both_orders_begin_alike_and_grow(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[str, list[str]] = {}

    def note(folder: Path, photos: Dataset, val: Dataset, **_: Any) -> dict[str, str]:
        folder.mkdir(parents=True)
        trained[folder.name] = [each.image_id for each in photos.annotations]
        return {"run": folder.name}

    monkeypatch.setattr(selection, "train_once", note)
    monkeypatch.setattr(selection, "select_photos", take_the_last)
    where = tmp_path / "work"
    settings = selection.Settings(
        tmp_path, where, where / "found.json", where / "picture.png", budgets=(3, 5, 8)
    )

    rows = selection._measure_seed(settings, 0, data, data)

    start = trained["start"]
    rest = sorted({each.image_id for each in data.annotations} - {*start}, reverse=True)
    assert len(start) == 3
    assert trained["select-5"] == start + rest[:2]
    assert trained["select-8"] == start + rest[:5]
    assert trained["random-5"][:3] == trained["random-8"][:3] == start
    assert trained["random-8"][:5] == trained["random-5"]
    assert [row["run"] for row in rows["select"]] == ["start", "select-5", "select-8"]
    assert [row["run"] for row in rows["random"]] == ["start", "random-5", "random-8"]
