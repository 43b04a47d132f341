"""How real photos are made long-tailed."""

from pathlib import Path

import pytest

from benchmarks.rare_classes import make_long_tail
from tests.training.data.smears import numbered, write_voc
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders


@pytest.mark.parametrize("keep", [0, 2])
def test_so_many_photos_of_a_rare_class_stay_and_all_others(tmp_path: Path, keep: int) -> None:
    names = dict.fromkeys(numbered(4), "rare")
    folder = write_voc(tmp_path / "voc", {"train": numbered(9)}, names)
    (data,) = Folders(FolderSettings((folder,), val=0)).datasets(("train",))
    kept = [make_long_tail(data, ("rare",), keep, seed).annotations for seed in range(9)]
    for annotations in kept:
        labels = [a.labels for a in annotations]
        assert (labels.count(("rare",)), labels.count(("cell",))) == (keep, 5)
        assert [a.image_id for a in annotations] == sorted(a.image_id for a in annotations)
    choices = {tuple(a.image_id for a in annotations) for annotations in kept}
    assert (len(choices) > 1) == (keep > 0)
