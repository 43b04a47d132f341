"""The Python of docs/client.md runs as it stands there, but for the server's address."""

import re
import shutil
from pathlib import Path

import pytest

from serving.server.server import EmbeddedServer
from tests.conftest import PROJECT

PAGE = PROJECT / "docs" / "client.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
ADDRESS = "127.0.0.1:8001"


@pytest.fixture
def here(smear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the programs run in."""
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        shutil.copy(smear, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(program: str, server: EmbeddedServer) -> None:
    assert ADDRESS in program
    exec(compile(program.replace(ADDRESS, server.grpc_url), str(PAGE), "exec"), {})


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_page_runs(
    program: str, here: Path, server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run(program, server)
    assert capsys.readouterr().out or (here / "drawn.png").exists()


def test_the_page_has_all_its_programs() -> None:
    assert len(PROGRAMS) >= 5
