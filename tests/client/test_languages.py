"""The Python of docs/languages.md and docs/doctor.md runs as it stands, but for the address."""

import re
import shutil
from dataclasses import astuple
from pathlib import Path

import pytest

from client import Detector
from serving.server.server import EmbeddedServer
from tests.conftest import PROJECT

ADDRESS = "127.0.0.1:8001"


@pytest.fixture(autouse=True)
def here(smear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(smear, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)


def run(page: str, server: EmbeddedServer) -> None:
    text = (PROJECT / "docs" / page).read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert ADDRESS in program
    exec(compile(program.replace(ADDRESS, server.grpc_url), page, "exec"), {})


def test_the_script_without_the_library_finds_the_same(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run("languages.md", server)
    lines = capsys.readouterr().out.splitlines()
    with Detector(server.grpc_url) as detector:
        found = detector.detect("photo.jpg", score_threshold=0.6).detections
    assert [line.split()[0] for line in lines] == [detection.label for detection in found]
    numbers = [[float(n) for n in re.findall(r"\d+\.?\d*(?:e-?\d+)?", line)] for line in lines]
    assert numbers == [pytest.approx([d.score, *astuple(d.box)], rel=1e-4) for d in found]


def test_who_answers_and_where_the_time_goes(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run("doctor.md", server)
    first, *steps = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2\.\d+\.\d+ True 64000000", first)
    assert [step.split()[0] for step in steps] == ["preprocess", "ssd", "postprocess"]
