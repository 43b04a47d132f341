"""An artifact becomes a version or a task of its own; a refused one leaves no trace."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc_client

from serving.errors import BusyError, PublishError, StoreError
from serving.history import read_record
from serving.model_config import with_pin
from serving.release.publish import (
    CanarySettings,
    PublishSettings,
    canary,
    publish,
)
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from training.export.quantize import to_float16, to_int8

UNTRIED: dict[str, Any] = {"private_server": False, "slowdown": 100.0}


def release(artifact: Path, repository: Path | str, **settings: Any) -> None:
    """`serving publish` without the trials that take long."""
    publish(
        PublishSettings(artifact=artifact, repository=str(repository), **{**UNTRIED, **settings})
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in and beside the repository."""
    files = [path for path in folder.parent.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder.parent)): path.read_bytes() for path in files}


def int8(network: onnx.ModelProto) -> onnx.ModelProto:
    """The network in 8 bits, calibrated on noise."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    return to_int8(network, [noise])


def detect(url: str, photo: Path, model: str = "ensemble") -> grpc_client.InferResult:
    """One photo through a plain Triton client."""
    image = grpc_client.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[photo.read_bytes()]], dtype=object))
    with grpc_client.InferenceServerClient(url) as client:
        return client.infer(model, [image], client_timeout=20)


def test_next_version(
    make_artifact: Callable[..., Path], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact()
    release(artifact, repository)
    release(artifact, repository)
    versions = {path.name for path in (repository / "ssd").iterdir() if path.name.isdecimal()}
    assert versions == {"1", "2", "3"}
    placed = (repository / "ssd" / "3" / "model.onnx").read_bytes()
    assert placed == (artifact / "model.onnx").read_bytes()
    assert "version 3 is live, before it 2" in capsys.readouterr().out


def test_a_version_has_the_reference_of_its_artifact(
    make_artifact: Callable[..., Path], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of before has none, which is said and stops nothing."""
    artifact = make_artifact()
    histogram = {"edges": [1000, 2000.5], "counts": [1, 0, 2]}
    reference = {"images": 3, "statistics": {"image_bytes": histogram}}
    words = "has no reference: drift cannot be judged for this version"
    release(artifact, repository)
    assert words in capsys.readouterr().out
    (artifact / "card.json").write_text(json.dumps({"reference": reference}))
    release(artifact, repository)
    canary(CanarySettings(artifact=artifact, repository=str(repository), **UNTRIED))
    release(artifact, repository.with_name("new"))
    assert words not in capsys.readouterr().out
    versions = read_record(open_store(repository), "ensemble").versions
    assert [version.get("reference") for version in versions.values()] == [
        None,
        reference,
        reference,
    ]
    (made,) = read_record(open_store(repository.with_name("new")), "ensemble").versions.values()
    assert made["reference"] == reference


def test_scores_that_mean_something_else_are_told(
    make_artifact: Callable[..., Path], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thresholds are the task's, as its labels are; that the artifact has others is said."""
    artifact = make_artifact()
    network = onnx.load(artifact / "model.onnx")
    facts = {"reliability": json.dumps({"is_applied": True})}
    onnx.helper.set_model_props(network, facts)
    onnx.save(network, artifact / "model.onnx")
    card = json.loads((artifact / "card.json").read_text())
    (artifact / "card.json").write_text(json.dumps(card | {"score_thresholds": [0.4, 0.5, 0.6]}))
    words = (
        "card.json wants score_thresholds [0.4, 0.5, 0.6], the service stays with 0.5: ",
        "its scores are calibrated, the live version's are not calibrated: ",
    )
    release(artifact, repository)
    told = capsys.readouterr().out
    assert [each for each in words if each not in told] == []
    release(artifact, repository.with_name("new"))
    release(artifact, repository.with_name("new"))
    told = capsys.readouterr().out
    assert [each for each in words if each in told] == []


@pytest.mark.parametrize("convert", [int8, to_float16], ids=["int8", "float16"])
def test_other_precisions_of_the_shipped_network(
    convert: Callable[[onnx.ModelProto], onnx.ModelProto],
    make_artifact: Callable[..., Path],
    repository: Path,
    smear: Path,
) -> None:
    """The private trial and all; the float32 network is live before."""
    artifact = make_artifact()
    onnx.save(convert(onnx.load(repository / "ssd" / "1" / "model.onnx")), artifact / "model.onnx")
    release(artifact, repository, private_server=True)
    with EmbeddedServer(ServerSettings(repository)) as server:
        found = detect(server.grpc_url, smear)
    assert found.as_numpy("num_detections")[0, 0] > 10
    assert (repository / "ssd" / "2" / "model.onnx").is_file()


def test_old_versions_go_but_no_pinned_one(
    make_artifact: Callable[..., Path], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact()
    release(artifact, repository)
    pinned = (repository / "ensemble" / "config.pbtxt").read_text()
    (repository / "mine" / "1").mkdir(parents=True)
    (repository / "mine" / "1" / ".keep").touch()
    text = with_pin(pinned, "ssd", 2).replace('name: "ensemble"', 'name: "mine"')
    (repository / "mine" / "config.pbtxt").write_text(text)
    for _ in range(3):
        release(artifact, repository, keep=2)
    versions = {path.name for path in (repository / "ssd").iterdir() if path.name.isdecimal()}
    assert versions == {"2", "4", "5"}
    assert "removed: version 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["RBC", "WBC", "Other"]}, "another task is another --repository"),
        ({"labels": ["WBC", "RBC", "Platelets"]}, "train in that order: .*--labels RBC WBC"),
        ({"size": 96}, r"images=\(300, 300, 3\).*images=\(96, 96, 3\)"),
        ({"keep": 30}, r"boxes=\(30, 4\)"),
        (
            {"resize": "letterbox"},
            "resizes photos by stretch, the artifact was trained with --resize letterbox: another",
        ),
    ],
)
def test_another_task_is_refused(
    changes: dict, words: str, make_artifact: Callable[..., Path], repository: Path
) -> None:
    artifact = make_artifact(**changes)
    before = contents(repository)
    with pytest.raises(PublishError, match=words):
        release(artifact, repository)
    with pytest.raises(PublishError, match=words):
        canary(CanarySettings(artifact=artifact, repository=str(repository)))
    assert contents(repository) == before


def test_server_away_leaves_the_repository(
    make_artifact: Callable[..., Path], repository: Path
) -> None:
    artifact = make_artifact()
    before = contents(repository)
    with pytest.raises(PublishError, match=r"127\.0\.0\.1:1 does not accept this command"):
        release(artifact, repository, url="127.0.0.1:1")
    assert contents(repository) == before


def test_running_server_serves_the_version(
    make_artifact: Callable[..., Path], repository: Path, smear: Path
) -> None:
    artifact = make_artifact()
    with EmbeddedServer(ServerSettings(repository)) as server:
        release(artifact, repository, url=server.grpc_url, admin_key=server.admin_key)
        result = detect(server.grpc_url, smear)
        assert result.as_numpy("num_detections")[0, 0] == 1
        with pytest.raises(
            PublishError, match="not accept this command: This protocol is restricted"
        ):
            release(artifact, repository, url=server.grpc_url, admin_key="a-wrong-key")
        assert not (repository / "ssd" / "3").exists()


def test_server_over_another_repository(
    make_artifact: Callable[..., Path], repository: Path, server: EmbeddedServer
) -> None:
    artifact = make_artifact()
    words = [r"version 2 is live, but .*models does not hold it", r"does it serve .*as it was"]
    for each in words:
        before = contents(repository)
        with pytest.raises(PublishError, match=each):
            release(artifact, repository, url=server.grpc_url, admin_key=server.admin_key)
        assert contents(repository) == before
        shutil.copytree(repository / "ssd" / "1", repository / "ssd" / "2", dirs_exist_ok=True)


def test_second_publisher_is_told_who_is_at_work(
    make_artifact: Callable[..., Path], repository: Path
) -> None:
    artifact = make_artifact()
    with open_store(repository).lock("publish the other one"):
        before = contents(repository)
        with pytest.raises(BusyError, match="publish the other one"):
            release(artifact, repository)
        assert contents(repository) == before


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_share_out_of_range(share: float, repository: Path) -> None:
    with pytest.raises(PublishError, match="--share must be 0 to 1"):
        canary(CanarySettings(repository=str(repository), share=share))


def test_share_without_a_canary(repository: Path) -> None:
    with pytest.raises(PublishError, match="runs no canary of ensemble: name the artifact"):
        canary(CanarySettings(repository=str(repository), share=0.5))


def test_no_release_beside_a_canary(make_artifact: Callable[..., Path], repository: Path) -> None:
    artifact = make_artifact()
    settings = CanarySettings(artifact=artifact, repository=str(repository), **UNTRIED)
    canary(settings)
    for again in (lambda: release(artifact, repository), lambda: canary(settings)):
        with pytest.raises(PublishError, match="version 2 is a canary of ensemble: promote it"):
            again()


def test_malformed_address(make_artifact: Callable[..., Path]) -> None:
    with pytest.raises(StoreError, match="is no address of a model repository"):
        release(make_artifact(), "s3:/bucket")
