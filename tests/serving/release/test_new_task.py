"""The first publish of a task makes it, whole and served, or leaves no trace."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving import template
from serving.errors import PublishError
from serving.repository import list_tasks
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.serving.release.test_publish import contents, detect, release


def test_new_repository_for_other_labels_and_size_is_served(
    make_artifact: Callable[..., Path], tmp_path: Path, smear: Path
) -> None:
    target = tmp_path / "new" / "models"
    release(make_artifact(["crack", "hole"], size=96, keep=30), target)
    assert [path.name for path in target.parent.iterdir()] == ["models"]
    with EmbeddedServer(ServerSettings(target)) as server:
        result = detect(server.grpc_url, smear)
    height, width = result.as_numpy("image_size")[0]
    assert result.as_numpy("num_detections")[0, 0] == 1
    assert result.as_numpy("detection_labels")[0, 0] == b"crack"
    np.testing.assert_allclose(
        result.as_numpy("detection_boxes")[0, 0],
        [width / 4, height / 4, width * 3 / 4, height * 3 / 4],
        atol=0.5,
    )


def test_two_tasks_side_by_side(
    make_artifact: Callable[..., Path], repository: Path, smear: Path
) -> None:
    cracks = make_artifact(["crack", "hole"], size=96, keep=30)
    with EmbeddedServer(ServerSettings(repository)) as server:
        running = {"url": server.grpc_url, "admin_key": server.admin_key}
        release(cracks, repository, model="road", new=True, private_server=True, **running)
        release(make_artifact(["crack", "hole"], size=96, keep=30, score=0.7), repository,
                model="road", **running)  # fmt: skip
        cells = detect(server.grpc_url, smear)
        road = detect(server.grpc_url, smear, "road")
    assert cells.as_numpy("detection_labels")[0, 0] in (b"RBC", b"WBC")
    assert road.as_numpy("detection_labels")[0, 0] == b"crack"
    assert round(float(road.as_numpy("detection_scores")[0, 0]), 2) == 0.7
    assert list_tasks(open_store(repository)) == ["ensemble", "road"]
    with EmbeddedServer(ServerSettings(repository)) as server:  # both again from the start
        assert detect(server.grpc_url, smear, "road").as_numpy("num_detections")[0, 0] == 1


def test_mistyped_model_makes_no_task(make_artifact: Callable[..., Path], repository: Path) -> None:
    artifact = make_artifact()
    before = contents(repository)
    with pytest.raises(PublishError, match="has no model ensmble, only ensemble, postprocess"):
        release(artifact, repository, model="ensmble")
    with pytest.raises(PublishError, match="has ensemble already: publish without --new"):
        release(artifact, repository, new=True)
    with pytest.raises(PublishError, match="--model must be letters"):
        release(artifact, repository, model="a/b", new=True)
    assert contents(repository) == before


def test_bad_artifact_makes_no_repository(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = make_artifact(score=float("inf"))
    with pytest.raises(PublishError, match="not finite"):
        release(artifact, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_new_repository_and_a_server_contradict(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(PublishError, match="publish without --url"):
        release(make_artifact(), tmp_path / "models", url="127.0.0.1:1")


def test_folder_that_is_no_repository(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(PublishError, match="has no model ensemble, only nothing"):
        release(make_artifact(), tmp_path / "photos")


def test_template_missing(
    make_artifact: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "TEMPLATE", tmp_path / "absent")
    with pytest.raises(PublishError, match="the repository to start from is missing"):
        release(make_artifact(), tmp_path / "models")
