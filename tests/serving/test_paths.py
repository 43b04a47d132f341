"""Folders are called as people call them: with spaces, umlauts and what a shell would obey."""

import tempfile
from pathlib import Path

import pytest

from client import Detector
from serving.server.server import EmbeddedServer, ServerSettings

ODD = "My Projects; größe & $(touch obeyed) 'x'"


def test_a_server_in_folders_of_any_name(
    repository: Path, smear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (ODD, f"{ODD}/temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / ODD)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ODD / "temporary"))
    odd = repository.rename(tmp_path / ODD / "models")
    with EmbeddedServer(ServerSettings(odd)) as server, Detector(server.grpc_url) as detector:
        assert detector.detect(smear).detections
    assert sorted(path.name for path in Path().iterdir()) == ["models", "temporary"]
