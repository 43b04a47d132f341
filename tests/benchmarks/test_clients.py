"""The client's benchmarks, and that of two precisions, in short."""

import json
from pathlib import Path

import pytest

from benchmarks import clients, served_precisions


@pytest.mark.slow
def test_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "clients.json"
    clients.main(clients.Settings(slices=2, count=24, output=output))
    found = json.loads(output.read_text())
    assert len(found["photos_a_second"]) == 2
    assert [len(times) for times in found["milliseconds"].values()] == [3, 3]
    assert "ms a photo, local" in capsys.readouterr().out


@pytest.mark.slow
def test_served_precisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "served.json"
    settings = served_precisions.Settings(slices=2, seconds=0.3, output=output)
    served_precisions.main(settings)
    assert all(
        rate > 0 for turn in json.loads(output.read_text())["photos_a_second"] for rate in turn
    )
    assert "times (" in capsys.readouterr().out
