"""docs/notebook.ipynb runs from its first cell to its last, and says what it lacks."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import training
from tests.conftest import PROJECT

NOTEBOOK = PROJECT / "docs" / "notebook.ipynb"
QUICK = {
    "count=60": "count=6",
    'preset = "ssd_lite0"': 'preset = "ssd_compact"',  # which is the tiny one here
    "epochs = None": "epochs = 1",
}
TINY = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from tests.training.tiny_training import make_tiny
make_tiny()
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_from_photos_to_boxes(notebook: nbformat.NotebookNode, tmp_path: Path) -> None:
    for cell in notebook.cells:
        for written, quick in QUICK.items():
            if cell.id == "settings":
                assert written in cell.source
                cell.source = cell.source.replace(written, quick)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(TINY))
    (tmp_path / "docs").mkdir()
    place = {"metadata": {"path": str(tmp_path / "docs")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    texts = {name: "".join(each.get("text", "") for each in of) for name, of in outputs.items()}
    assert "6 images in" in texts["settings"]
    assert "train: 5 images" in texts["check"]
    assert "notebook is ready" in texts["train"]
    assert texts["measure"].endswith(" on 1 photos\n")
    assert "image/png" in outputs["detect"][-1].data


def test_it_is_kept_without_outputs(notebook: nbformat.NotebookNode) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


def test_without_the_extra_it_says_so_in_one_sentence(notebook: nbformat.NotebookNode) -> None:
    (cell,) = (cell for cell in notebook.cells if cell.id == "imports")
    missing = "import sys; sys.modules['tensorflow'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", missing + cell.source],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "tensorflow" in done.stderr
    assert "pip install -c constraints.txt -e '.[notebook]'" in done.stderr


def test_all_that_training_offers_is_there() -> None:
    assert {name for name in training.__all__ if not callable(getattr(training, name))} == set()
    assert set(training.__all__) <= set(dir(training))
    with pytest.raises(ImportError, match="run_photo"):
        from training import run_photo  # type: ignore[attr-defined]  # noqa: F401


def test_importing_training_takes_no_tensorflow() -> None:
    names = "tensorflow", "numpy", "tyro"
    code = f"import sys, training; sys.exit(any(name in sys.modules for name in {names}))"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_the_program_of_the_page_prints_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(
        r"^```python\n(.*?)^```", (PROJECT / "docs" / "notebook.md").read_text(), re.DOTALL | re.M
    )
    monkeypatch.chdir(tmp_path)  # where there is no run
    exec(compile(program, "notebook.md", "exec"), {})
    assert capsys.readouterr().out == (
        "runs/a/run.json does not exist: expected a folder that `training train --output` wrote\n"
    )


def test_the_page_names_all_that_training_offers() -> None:
    page = (PROJECT / "docs" / "notebook.md").read_text()
    assert [name for name in training.__all__ if name not in page] == []
