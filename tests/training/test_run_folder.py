import dataclasses
import json
from pathlib import Path

import pytest

from training import run_folder
from training.errors import TrainingError
from training.presets import PRESETS, Preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_comes_back_from_json(preset: Preset) -> None:
    variant = dataclasses.replace(preset, scales=tuple(0.9 * s for s in preset.scales))
    description = json.loads(json.dumps({"preset": dataclasses.asdict(variant)}))
    assert run_folder.preset_from(description) == variant


@pytest.mark.parametrize("description", [{}, {"preset": None}, {"preset": {"name": "a"}}])
def test_a_preset_of_another_version_is_refused(description: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="records no preset of this version"):
        run_folder.preset_from(description)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"run.json does not exist"):
        run_folder.load_network(tmp_path)


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    description = {"preset": dataclasses.asdict(PRESETS["ssd_compact"]), "labels": ["cell"]}
    run_folder.write_json(tmp_path / "run.json", description)
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        run_folder.load_network(tmp_path)
