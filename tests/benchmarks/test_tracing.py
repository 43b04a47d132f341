"""What traces cost, in short."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.mark.slow
def test_traces_are_measured(tmp_path: Path) -> None:
    """In a process of its own, since a provider stays."""
    output = tmp_path / "tracing.json"
    command = [sys.executable, "-m", "benchmarks.tracing", "--turns", "2", "--seconds", "0.3"]
    command += ["--ways", "100%"]
    done = subprocess.run([*command, "--output", output], cwd=PROJECT, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert list(found["turns"]) == ["not traced", "100%"]
    assert min(way["CPU a photo, ms"]["median"] for way in found["turns"].values()) > 0
    taken = found["microseconds an image in the client"]
    assert taken["no provider"] < taken["traced"]
