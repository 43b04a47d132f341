"""Pictures of histograms."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.errors import DriftError
from serving.monitoring.figures import make_samples
from serving.monitoring.judgement import Finding, compare_samples
from serving.monitoring.picture import LIVE, PANEL, draw_findings
from tests.serving.monitoring.past import draw_photos


def findings(brightness: float) -> list[Finding]:
    live, reference = draw_photos(1, 400, brightness), draw_photos(0, 58)
    return compare_samples(make_samples(live), make_samples(reference))


def test_a_panel_each(tmp_path: Path) -> None:
    found = findings(140)
    draw_findings(found, tmp_path / "all.png")
    draw_findings(found[:1], tmp_path / "one.png")
    with Image.open(tmp_path / "all.png") as every, Image.open(tmp_path / "one.png") as one:
        assert one.width == pytest.approx(PANEL[0], abs=50)
        assert every.width > 2.5 * one.width
        assert every.height > 3.5 * one.height


def test_bars_stand_where_the_values_are(tmp_path: Path) -> None:
    (dark,) = (each for each in findings(110) if each.moved)
    draw_findings([dark], tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), int)[100:]  # below the title
    red = (abs(pixels - LIVE).sum(-1) < 10).any(0)
    assert np.flatnonzero(red).mean() < 0.4 * len(red)  # dark is left


@pytest.mark.parametrize("name", ["picture.nonsense", "absent/picture.png", "."])
def test_a_file_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(DriftError, match=r"--picture .* cannot be written: "):
        draw_findings(findings(172), tmp_path / name)
