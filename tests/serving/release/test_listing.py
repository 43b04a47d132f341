"""`serving releases`: every version, with what is known of it, for people and for programs."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from serving.__main__ import main
from serving.errors import PublishError
from serving.release.listing import ReleasesSettings, releases
from serving.release.publish import (
    CanarySettings,
    PublishSettings,
    canary,
    publish,
)
from serving.server.server import EmbeddedServer, ServerSettings

UNTRIED: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}


def add(artifact: Path, repository: Path, **settings: Any) -> None:
    """`serving publish` without the trials."""
    publish(
        PublishSettings(artifact=artifact, repository=str(repository), **{**UNTRIED, **settings})
    )


def listed(capsys: pytest.CaptureFixture[str], repository: Path, **settings: Any) -> dict[str, Any]:
    """What `serving releases --json` prints: task, version, and all that is told of it."""
    capsys.readouterr()
    releases(ReleasesSettings(repository=str(repository), json=True, **settings))
    document = json.loads(capsys.readouterr().out)
    return {task: {row["version"]: row for row in rows} for task, rows in document.items()}


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="has no ensemble that takes photos: is it a model repo"):
        releases(ReleasesSettings(repository=str(tmp_path / "absent")))
    assert list(tmp_path.iterdir()) == []


def test_no_such_task(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["releases", "--repository", str(repository), "--model", "road"]) == 1
    assert "has no model road, only ensemble, postprocess" in capsys.readouterr().err


def test_shipped_version_as_a_table(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.utime(repository / "ssd" / "1" / "model.onnx", (1_700_000_000, 1_700_000_000))
    releases(ReleasesSettings(repository=str(repository)))
    title, head, row = capsys.readouterr().out.rstrip().splitlines()
    assert title == f"ensemble in {repository}"
    assert head.split("  ")[0] == "version"
    assert row.split() == [
        "1", "live", "-", "-", "-", "2d349ea3", "2023-11-14", "22:13:20", "copied", "ensemble",
    ]  # fmt: skip
    assert row.index("copied") == head.index("by")


def test_copied_version_explains_itself(
    repository: Path, make_artifact: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody copied in a version folder: what training wrote into the network is told."""
    model = onnx.load(make_artifact() / "model.onnx")
    facts = {"data_fingerprint": "c0ffee00" * 8, "git_commit": "abc", "exported": "2026-01-01"}
    metrics = json.dumps({"mAP@0.5": 0.91, "mAP@[.5:.95]": 0.6, "epoch": 50})
    helper.set_model_props(model, {**facts, "metrics": metrics})
    (repository / "ssd" / "2").mkdir()
    onnx.save(model, repository / "ssd" / "2" / "model.onnx")
    row = listed(capsys, repository)["ensemble"][2]
    size = (repository / "ssd" / "2" / "model.onnx").stat().st_size
    assert row["facts"].items() >= {**facts, "mAP@0.5": 0.91, "mAP@[.5:.95]": 0.6}.items()
    assert (row["facts"]["bytes"], row["facts"]["by"]) == (size, "copied")
    age = datetime.now(UTC) - datetime.fromisoformat(row["facts"]["published"])
    assert 0 <= age.total_seconds() < 60
    assert (row["state"], row["served"], row["held_by"]) == ("live", None, ["ensemble"])
    releases(ReleasesSettings(repository=str(repository)))
    assert "2        live   0.910    0.600         training     c0ffee00" in capsys.readouterr().out


def test_versions_that_are_none(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version, name in ((3, "model.onnx"), (4, "notes.txt")):
        (repository / "ssd" / str(version)).mkdir()
        (repository / "ssd" / str(version) / name).write_text("no network")
    (repository / "ssd" / "5").mkdir()
    found = listed(capsys, repository)["ensemble"]
    assert list(found) == [4, 3, 1]
    assert found[3]["facts"]["bytes"] == 10
    assert found[4]["facts"] == {"by": "no model.onnx"}
    releases(ReleasesSettings(repository=str(repository)))
    assert "no model.onnx" in capsys.readouterr().out


def test_published_versions_and_a_canary(
    repository: Path, make_artifact: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact()
    add(artifact, repository)
    settings = CanarySettings(artifact=artifact, repository=str(repository), share=0.25, **UNTRIED)
    canary(settings)
    found = listed(capsys, repository)["ensemble"]
    assert list(found) == [3, 2, 1]
    assert [row["state"] for row in found.values()] == ["canary 25%", "live", ""]
    assert [row["held_by"] for row in found.values()] == [["ensemble_canary"], ["ensemble"], []]
    assert "@" in found[2]["facts"]["by"]
    assert found[2]["facts"]["sha256"] == found[3]["facts"]["sha256"]


def test_removed_versions_are_not_listed(
    repository: Path, make_artifact: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact()
    for _ in range(3):
        add(artifact, repository, keep=2)
    assert list(listed(capsys, repository)["ensemble"]) == [4, 3]
    document = json.loads((repository / "releases.json").read_text())["tasks"]["ensemble"]
    assert list(document["versions"]) == ["3", "4"]
    assert document["highest"] == 4


def test_several_tasks(
    repository: Path, make_artifact: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    road = make_artifact(["crack", "hole"], size=96, keep=30)
    add(road, repository, model="road", new=True)
    add(road, repository, model="road")
    found = listed(capsys, repository)
    assert {task: list(rows) for task, rows in found.items()} == {"ensemble": [1], "road": [2, 1]}
    assert list(listed(capsys, repository, model="road")) == ["road"]
    releases(ReleasesSettings(repository=str(repository)))
    titles = [line for line in capsys.readouterr().out.splitlines() if " in " in line]
    assert titles == [f"{task} in {repository}" for task in ("ensemble", "road")]


def test_what_a_server_has_loaded(
    tiny_repository: Path, make_artifact: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedServer(ServerSettings(tiny_repository)) as server:
        add(make_artifact(), tiny_repository)  # the server is not told
        running: dict[str, Any] = {"url": server.grpc_url, "admin_key": server.admin_key}
        found = listed(capsys, tiny_repository, **running)["ensemble"]
        assert {version: row["served"] for version, row in found.items()} == {2: False, 1: True}
        releases(ReleasesSettings(repository=str(tiny_repository), **running))
        head, newest, oldest = capsys.readouterr().out.rstrip().splitlines()[1:]
        assert head.endswith("held by   on the server")
        assert newest.endswith("ensemble")
        assert oldest.endswith("loaded")
        with pytest.raises(PublishError, match=r"restricted.* the key that it prints with --admin"):
            listed(capsys, tiny_repository, url=server.grpc_url, admin_key="wrong")
    with pytest.raises(
        PublishError, match=r"does not tell what it serves: .*`python -m serving up"
    ):
        listed(capsys, tiny_repository, **running)


def test_the_log_of_changes_for_programs(
    repository: Path, make_artifact: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["releases", "--repository", str(repository), "--log", "--json"]
    assert main(where) == 0
    assert json.loads(capsys.readouterr().out) == {"ensemble": []}
    add(make_artifact(), repository)
    capsys.readouterr()
    assert main(where) == 0
    (change,) = json.loads(capsys.readouterr().out)["ensemble"]
    assert change["before"] == {"live": 1, "canary": None, "share": 0.0}
    assert change["after"] == {"live": 2, "canary": None, "share": 0.0}
    assert change["why"] == ""
    assert datetime.fromisoformat(change["at"]).tzinfo is UTC
