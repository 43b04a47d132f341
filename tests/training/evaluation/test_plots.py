from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from training.evaluation import plots
from training.evaluation.outcomes import Curve

CURVE = Curve(np.array([0.9, 0.5]), np.array([1, 1]), np.array([0, 1]), 2)
NO_CURVE = Curve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 0)


def _words(path: Path) -> str:
    """The text of an SVG that follows the page's colours."""
    text = path.read_text(encoding="utf-8")
    assert "currentColor" in text
    assert "prefers-color-scheme:dark" in text
    assert plots._INK not in text
    return " ".join(ElementTree.fromstring(text).itertext())


@pytest.mark.parametrize("curve", [CURVE, NO_CURVE])
def test_precision_and_recall(tmp_path: Path, curve: Curve) -> None:
    plots.plot_precision_recall(tmp_path / "a.svg", "a < b", 0, [curve, NO_CURVE], 0.5)
    words = _words(tmp_path / "a.svg")
    assert "a < b" in words
    assert "IoU 0.75" in words
    assert "score 0.50" in words


@pytest.mark.parametrize("count", [0, 2, 30])
def test_f1(tmp_path: Path, count: int) -> None:
    labels = [f"kind {k}" for k in range(count)]
    plots.plot_f1(tmp_path / "a.svg", dict.fromkeys(range(count), CURVE), labels, 0.25)
    words = _words(tmp_path / "a.svg")
    assert "0.25" in words
    assert ("kind 1" in words) == (count == 2)


@pytest.mark.parametrize("log", [False, True])
def test_history(tmp_path: Path, log: bool) -> None:
    steps = np.arange(1, 100)
    lines = {"loss": (steps, 5.0 / steps), "one": (steps[:1], np.ones(1))}
    plots.plot_history(tmp_path / "a.svg", "Loss", lines, log)
    words = _words(tmp_path / "a.svg")
    assert "Loss" in words
    assert "step" in words


def test_a_plot_is_the_same_file_every_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plots.plot_precision_recall(tmp_path / name, "cell", 0, [CURVE, CURVE], 0.5)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
