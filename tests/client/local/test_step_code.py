import sys
from pathlib import Path

import pytest

from client.local import step_code


def write(folder: Path, **modules: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    return folder


def test_modules_import_their_neighbours_and_nobody_elses(tmp_path: Path) -> None:
    code = "import json\nfrom size import SIZE\ndef late():\n    import size\n    return size.SIZE"
    one = step_code.load_module(write(tmp_path / "1", step=code, size="SIZE = 1"), "step")
    two = step_code.load_module(write(tmp_path / "2", step=code, size="SIZE = 2"), "step")

    assert (one.SIZE, one.late(), two.SIZE, two.late()) == (1, 1, 2, 2)
    assert one.json is sys.modules["json"]
    assert not {"step", "size"} & sys.modules.keys()


def test_the_programs_own_modules_of_the_same_names_stay(tmp_path: Path) -> None:
    folder = write(tmp_path, random="import json\nMINE = True", step="import random")

    assert step_code.load_module(folder, "step").random.MINE
    assert not hasattr(sys.modules["random"], "MINE")


def test_nothing_is_written(tmp_path: Path) -> None:
    step_code.load_module(write(tmp_path, step="import size", size=""), "step")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["size.py", "step.py"]


def test_dataclasses_with_annotations_as_text(tmp_path: Path) -> None:
    code = """
from dataclasses import dataclass
@dataclass
class Settings:
    limit: int = 3
"""
    assert step_code.load_module(write(tmp_path, step=code), "step").Settings().limit == 3


def test_what_is_not_there(tmp_path: Path) -> None:
    folder = write(tmp_path, step="import no_such_package")

    with pytest.raises(FileNotFoundError):
        step_code.load_module(folder, "other")
    with pytest.raises(ImportError, match="no_such_package"):
        step_code.load_module(folder, "step")
