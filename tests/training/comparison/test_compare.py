import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_runs import write_run
from training import __main__ as command_line


def _change(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return write_run(tmp_path / "a", 0.8), write_run(tmp_path / "b", 0.9)


def _compare(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert command_line.main(["compare", *map(str, runs)]) == 0
    return capsys.readouterr().out.splitlines()


def test_what_differs_is_told(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = runs[1] / "run.json"
    description = json.loads(path.read_text())
    settings = description["settings"] | {"seed": 3, "batch_size": 16}
    preset = description["preset"] | {"zoom_out": 1.5}
    _change(path, settings=settings, preset=preset, fingerprint="other")
    told = _compare(runs, capsys)
    assert told[:4] == [
        "seed: 0 -> 3",
        "batch_size: the preset's -> 16",
        f"the preset's zoom_out: {description['preset']['zoom_out']} -> 1.5",
        "They were trained on different photos, or different boxes in them",
    ]
    assert told[-1].startswith("measured on 4 of val -> 4 of val, as the runs tell it")
    change = "mAP@0.5 0.800 -> 0.900 (+0.100)  mAP@[.5:.95] 0.400 -> 0.450 (+0.050)"
    assert told[-4:-1] == [f"{name:11}  {change}" for name in ("all classes", "cat", "dog")]


def test_runs_alike(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert _compare(runs, capsys)[0] == "settings and photos are the same"


def test_of_other_presets_the_name_is_enough(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs[1] / "run.json"
    description = json.loads(path.read_text())
    settings = description["settings"] | {"preset": "ssd_lite0"}
    preset = description["preset"] | {"name": "ssd_lite0", "input_size": 320}
    _change(path, settings=settings, preset=preset)
    assert _compare(runs, capsys)[:2] == ["preset: ssd_compact -> ssd_lite0", ""]


def test_a_class_that_one_run_lacks(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _change(runs[1] / "run.json", labels=["cat"])
    _change(runs[1] / "metrics.json", per_class={})
    told = _compare(runs, capsys)
    assert told[0] == "labels: cat, dog -> cat"
    assert "mAP@0.5 0.800 -> none  " in told[-2]


def test_a_figure_of_photos_trained_on_has_no_difference_to_an_map(
    tmp_path: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = write_run(tmp_path / "c", 0.95, " of photos trained on")
    told = _compare((runs[0], seen), capsys)
    assert "mAP@0.5 0.800 -> 0.950 of photos trained on  " in told[2]


def test_a_long_setting_is_cut(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    preset = json.loads((runs[1] / "run.json").read_text())["preset"]
    _change(runs[1] / "run.json", preset=preset | {"box_shapes": [[[0.1, 0.1]] * 40]})
    (line,) = [x for x in _compare(runs, capsys) if "box_shapes" in x]
    assert len(line) < 150
    assert line.endswith("...")


def test_figures_of_other_photos_are_not_compared(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, fingerprint in zip(runs, ("aaa", "bbb"), strict=True):
        _change(run / "metrics.json", fingerprint=fingerprint)
    assert command_line.main(["compare", *map(str, runs)]) == 1
    told = capsys.readouterr()
    assert "were measured on different val photos" in told.err
    assert "--records FOLDER" in told.err
    assert told.out == "settings and photos are the same\n\n"
    _change(runs[1] / "metrics.json", fingerprint="aaa")
    assert "0.800 -> 0.900" in "".join(_compare(runs, capsys))


def test_no_page_without_photos(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page"
    assert command_line.main(["compare", *map(str, runs), "--report", str(page)]) == 1
    assert "error: no page: it needs records with val photos" in capsys.readouterr().err
    assert not page.exists()


def test_a_run_that_was_not_evaluated(
    tmp_path: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bare = write_run(tmp_path / "bare")
    told = _compare((runs[0], bare), capsys)
    assert told[-1] == f"the newest checkpoint of {bare} was not evaluated"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist: expected a folder that `training train --output` wrote"),
        ("{", "is not JSON"),
        ("{}", "is not as `training train` writes it"),
    ],
)
def test_a_damaged_run_is_one_sentence(
    text: str | None,
    message: str,
    runs: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = runs[1] / "run.json"
    path.unlink() if text is None else path.write_text(text)
    assert command_line.main(["compare", *map(str, runs)]) == 1
    told = capsys.readouterr()
    assert message in told.err
    assert str(runs[1]) in told.err
    assert told.err.count("\n") == 1
    assert not told.out
