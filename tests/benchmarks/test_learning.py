"""What happens to the photos in the benchmark of the learning loop; the loop itself takes long."""

from pathlib import Path

import cv2
import numpy as np

from benchmarks import learning
from training.render.smears import RenderSettings, render_smears


def test_another_stain_leaves_the_slide_white_and_colours_the_cells(tmp_path: Path) -> None:
    render_smears(RenderSettings(tmp_path / "smears", 2, width=160, height=120))
    [path, _] = sorted((tmp_path / "smears/JPEGImages").iterdir())
    before = cv2.imread(str(path)).astype(float)
    learning._stain_otherwise(tmp_path / "smears")
    after = cv2.imread(str(path)).astype(float)
    dark = before.sum(axis=2) < np.quantile(before.sum(axis=2), 0.1)
    assert after[dark].mean() > before[dark].mean() + 20  # fainter
    assert before[dark].mean(axis=0).argmin() != after[dark].mean(axis=0).argmin()


def test_a_poisoned_inbox_swaps_two_classes_and_nothing_else(tmp_path: Path) -> None:
    render_smears(RenderSettings(tmp_path / "pool", 3, width=160, height=120))
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / "inbox" / name).mkdir(parents=True)
    settings = learning.Settings(tmp_path, tmp_path / "figures.json")
    first, *others = sorted((tmp_path / "pool/Annotations").iterdir())
    learning._put(tmp_path, first.stem, first)
    learning._poison(settings, learning.Story(settings))
    assert (tmp_path / "inbox/Annotations" / first.name).read_text() == first.read_text()
    for path in others:
        found = (tmp_path / "inbox/Annotations" / path.name).read_text()
        swap = {"RBC": "WBC", "WBC": "RBC"}
        names = learning.NAME.findall(path.read_text())
        assert learning.NAME.findall(found) == [swap.get(name, name) for name in names]
        assert learning.NAME.sub("", found) == learning.NAME.sub("", path.read_text())
