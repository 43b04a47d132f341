"""From an answer to the photos behind it, and back."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
import pytest

from serving import history
from serving.__main__ import main
from serving.release.publish import CanarySettings, canary

SETTINGS = {"preset": "tiny", "seed": 7, "freeze": None}
FINGERPRINT = "ab" * 32


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "one.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a photo's bytes")
    return path


@pytest.fixture
def artifact(make_artifact: Callable[..., Path], photo: Path) -> Path:
    """Of a run that was trained on the photo."""
    folder = make_artifact()
    network = onnx.load(folder / "model.onnx")
    digits = sha256(photo.read_bytes()).hexdigest()[:12]
    told = {
        "settings": json.dumps(SETTINGS),
        "data_fingerprint": FINGERPRINT,
        "trained_on": json.dumps({"complete": True, "photos": [digits]}),
    }
    onnx.helper.set_model_props(network, told)
    onnx.save(network, folder / "model.onnx")
    return folder


@pytest.fixture
def released(
    tiny_repository: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Version 2 became a canary at noon. Gives the command."""
    monkeypatch.setattr(history, "tell_time", lambda: "2026-11-20T12:00:00+00:00")
    settings: dict[str, Any] = {"private_server": False, "slowdown": 1000.0, "share": 1.0}
    canary(CanarySettings(artifact=artifact, repository=str(tiny_repository), **settings))
    return lambda *arguments: main(["lineage", "--repository", str(tiny_repository), *arguments])


def versions(capsys: pytest.CaptureFixture[str]) -> list[int]:
    return [each["version"] for each in json.loads(capsys.readouterr().out)]


def test_each_is_found_from_the_other(
    released: Callable[..., int],
    artifact: Path,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    settings = SETTINGS | {"output": str(run), "records": "records"}
    (run / "run.json").write_text(json.dumps({"settings": settings, "fingerprint": FINGERPRINT}))
    checksum = sha256((artifact / "model.onnx").read_bytes()).hexdigest()
    capsys.readouterr()
    for what in (artifact, run, photo, checksum[:8], FINGERPRINT, 2):
        assert released(str(what), "--json") == 0
        assert versions(capsys) == [2], what


def test_a_time_is_that_of_an_answer(
    released: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for what, served in (
        ("2026-11-20T11:59:59", [1]),
        ("2026-11-20T12:00:00", [1, 2]),
        ("2026-11-20T12:59:59+01:00", [1]),
        ("2026-11-20T14:00:00+01:00", [1, 2]),
    ):
        assert released(what, "--json") == 0
        assert versions(capsys) == served, what


def test_in_words_with_the_photos_names(
    released: Callable[..., int], photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert released("2", "--photos", str(photo.parent)) == 0
    told = capsys.readouterr().out
    assert "served     2026-11-20T12:00:00+00:00  version 1 live, version 2 a canary" in told
    assert "preset tiny, seed 7\n" in told
    assert f"trained on 1 photos\n             {photo}\n" in told


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("9", "no version has to do with 9: there are 1, 2"),
        ("123456789012", "no version has to do with 123456789012: there are 1, 2"),
        ("yesterday", "yesterday is no version, no time such as 2026-11-20T20:15:00+01:00, no "),
    ],
)
def test_what_is_not_there(
    released: Callable[..., int], capsys: pytest.CaptureFixture[str], what: str, told: str
) -> None:
    assert released(what) == 1
    assert f"error: {told}" in capsys.readouterr().err


def test_a_folder_that_is_neither(
    released: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for damaged in ("", "{}"):
        (tmp_path / "run.json").write_text(damaged)
        assert released(str(tmp_path)) == 1
        assert "is neither an artifact (model.onnx) nor a run (run.json)" in capsys.readouterr().err
