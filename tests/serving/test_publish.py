"""An artifact becomes a version or a repository of its own; a refused one leaves no trace."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client

from serving import publish as publishing
from serving.errors import PublishError
from serving.publish import PublishSettings, publish
from serving.server import EmbeddedServer, ServerSettings


def listing(folder: Path) -> set[str]:
    """Everything in and beside the repository."""
    return {str(path.relative_to(folder.parent)) for path in folder.parent.rglob("*")}


def detect(url: str, photo: Path) -> grpc_client.InferResult:
    """One photo through a plain Triton client."""
    image = grpc_client.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[photo.read_bytes()]], dtype=object))
    with grpc_client.InferenceServerClient(url) as client:
        return client.infer("ensemble", [image], client_timeout=20)


def test_new_repository_for_other_labels_and_size_is_served(
    make_artifact: Callable[..., Path], tmp_path: Path, smear: Path
) -> None:
    target = tmp_path / "new" / "models"
    publish(PublishSettings(make_artifact(["crack", "hole"], size=96, keep=30), target))
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


def test_next_version(
    make_artifact: Callable[..., Path], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact()
    publish(PublishSettings(artifact, repository))
    publish(PublishSettings(artifact, repository))
    versions = {path.name for path in (repository / "ssd").iterdir() if path.is_dir()}
    assert versions == {"1", "2", "3"}
    placed = (repository / "ssd" / "3" / "model.onnx").read_bytes()
    assert placed == (artifact / "model.onnx").read_bytes()
    assert "ssd/3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["RBC", "WBC", "Other"]}, "another task is another repository"),
        ({"labels": ["WBC", "RBC", "Platelets"]}, "train in that order: .*--labels RBC WBC"),
        ({"size": 96}, r"images=\(300, 300, 3\).*images=\(96, 96, 3\)"),
        ({"keep": 30}, r"boxes=\(30, 4\)"),
    ],
)
def test_another_task_is_refused(
    changes: dict, words: str, make_artifact: Callable[..., Path], repository: Path
) -> None:
    artifact = make_artifact(**changes)
    before = listing(repository)
    with pytest.raises(PublishError, match=words):
        publish(PublishSettings(artifact, repository))
    assert listing(repository) == before


def test_bad_artifact_makes_no_repository(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = make_artifact(score=float("inf"))
    with pytest.raises(PublishError, match="not finite"):
        publish(PublishSettings(artifact, tmp_path / "models"))
    assert not (tmp_path / "models").exists()


def test_new_repository_and_a_server_contradict(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(PublishError, match="publish without --url"):
        publish(PublishSettings(make_artifact(), tmp_path / "models", url="127.0.0.1:1"))


def test_server_away_leaves_the_repository(
    make_artifact: Callable[..., Path], repository: Path
) -> None:
    artifact = make_artifact()
    before = listing(repository)
    with pytest.raises(PublishError, match=r"127\.0\.0\.1:1 is no server that takes orders"):
        publish(PublishSettings(artifact, repository, url="127.0.0.1:1"))
    assert listing(repository) == before


def test_folder_that_is_no_repository(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(PublishError, match=r"labels\.txt cannot be read"):
        publish(PublishSettings(make_artifact(), tmp_path / "models"))


def test_running_server_loads_the_version(
    make_artifact: Callable[..., Path], repository: Path, smear: Path
) -> None:
    artifact = make_artifact()
    with EmbeddedServer(ServerSettings(repository)) as server:
        settings = PublishSettings(artifact, repository, server.grpc_url, server.admin_key)
        publish(settings)
        result = detect(server.grpc_url, smear)
        assert result.as_numpy("num_detections")[0, 0] == 1
        with pytest.raises(PublishError, match="takes orders: This protocol is restricted"):
            publish(PublishSettings(artifact, repository, server.grpc_url, "a-wrong-key"))
        assert not (repository / "ssd" / "3").exists()


def test_version_that_the_server_does_not_see_is_taken_away(
    make_artifact: Callable[..., Path], repository: Path, server: EmbeddedServer
) -> None:
    artifact = make_artifact()
    before = listing(repository)
    with pytest.raises(PublishError, match=r"does it serve .*version 2 was taken away"):
        publish(PublishSettings(artifact, repository, server.grpc_url, server.admin_key))
    assert listing(repository) == before


def test_template_missing(
    make_artifact: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing.layout, "TEMPLATE", tmp_path / "absent")
    with pytest.raises(PublishError, match="the repository to start from is missing"):
        publish(PublishSettings(make_artifact(), tmp_path / "models"))
