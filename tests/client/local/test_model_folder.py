import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from client import DetectorError, InvalidParameter
from client.local import model_folder
from serving.model_config import make_canary_config, with_pin, with_policy
from tests.conftest import PROJECT

SHIPPED = PROJECT / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the shipped repository, with nothing in its networks."""
    copy = shutil.copytree(
        SHIPPED, tmp_path / "models", ignore=shutil.ignore_patterns("model.onnx")
    )
    return Path(copy)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact that says nothing."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("model.onnx", "labels.txt"):
        (folder / name).touch()
    (folder / "card.json").write_text("{}")
    return folder


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def test_the_parts_of_a_repository(repository: Path) -> None:
    found = model_folder.find_models(repository)

    assert found.name == "ensemble"
    assert found.preprocess.version == repository / "preprocess" / "1"
    assert found.network == repository / "ssd" / "2" / "model.onnx"
    assert found.postprocess.version == repository / "postprocess" / "1"
    assert found.labels == repository / "postprocess" / "labels.txt"
    assert found.preprocess.parameters == {"max_pixels": "64000000", "resize": "stretch"}
    assert found.postprocess.output_dims("detection_boxes") == [100, 4]


def test_the_version_is_the_one_that_is_served(repository: Path) -> None:
    def version() -> str:
        return model_folder.find_models(repository).network.parent.name

    ensemble, network = (repository / name / "config.pbtxt" for name in ("ensemble", "ssd"))
    edit(network, lambda text: with_policy(text, frozenset({1})))
    assert version() == "1"
    edit(network, lambda text: with_policy(text, frozenset({1, 2})))
    assert version() == "2"
    edit(ensemble, lambda text: with_pin(text, "ssd", 1))
    assert version() == "1"


def test_a_version_or_a_canary_may_be_named(repository: Path) -> None:
    stable = (repository / "ensemble" / "config.pbtxt").read_text()
    text = make_canary_config(stable, "ensemble", "ssd", 1, 0.1)
    (repository / "ensemble_canary" / "1").mkdir(parents=True)
    (repository / "ensemble_canary" / "config.pbtxt").write_text(text)

    assert model_folder.find_models(repository, version=1).network.parent.name == "1"
    canary = model_folder.find_models(repository, "ensemble_canary")
    assert (canary.name, canary.network.parent.name) == ("ensemble_canary", "1")


def test_the_network_may_have_another_file_name(repository: Path) -> None:
    edit(repository / "ssd" / "config.pbtxt", lambda t: t + '\ndefault_model_filename: "a.onnx"')

    assert model_folder.find_models(repository).network.name == "a.onnx"


def test_an_artifact_has_the_steps_that_are_shipped(artifact: Path) -> None:
    found = model_folder.find_models(artifact)

    assert found.name == "mine"
    assert (found.network, found.labels) == (artifact / "model.onnx", artifact / "labels.txt")
    assert found.preprocess.version == SHIPPED / "preprocess" / "1"


def test_an_artifact_says_what_its_steps_do(artifact: Path) -> None:
    assert model_folder.find_models(artifact).preprocess.parameters["resize"] == "stretch"
    (artifact / "card.json").write_text('{"resize": "letterbox"}')
    found = model_folder.find_models(artifact)
    steps = (found.preprocess, found.postprocess)
    assert [step.parameters["resize"] for step in steps] == ["letterbox"] * 2
    assert found.postprocess.parameters["iou_threshold"] == "0.45"
    (artifact / "card.json").write_text('{"iou_threshold": 0.6}')
    found = model_folder.find_models(artifact)
    assert found.postprocess.parameters["iou_threshold"] == "0.6"
    assert "iou_threshold" not in found.preprocess.parameters
    (artifact / "card.json").unlink()  # a network and its labels alone
    assert model_folder.find_models(artifact).preprocess.parameters["resize"] == "stretch"


@pytest.mark.parametrize("card", ["", "[]", "{"])
def test_a_card_that_is_none(artifact: Path, card: str) -> None:
    (artifact / "card.json").write_text(card)
    with pytest.raises(DetectorError, match=r"mine/card\.json cannot be read"):
        model_folder.find_models(artifact)


def test_an_artifact_without_the_shipped_steps(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "SHIPPED", Path("/nowhere/model_repository"))

    with pytest.raises(InvalidParameter, match=r"not at /nowhere/model_repository: .*publish"):
        model_folder.find_models(artifact)


def test_what_is_neither(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="nowhere: no such folder"):
        model_folder.find_models(tmp_path / "nowhere")
    with pytest.raises(InvalidParameter, match=r"neither .* it holds nothing"):
        model_folder.find_models(tmp_path)
    with pytest.raises(InvalidParameter, match=r"neither .* it holds 1, 2, config\.pbtxt"):
        model_folder.find_models(SHIPPED / "ssd")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(InvalidParameter, match=r"neither .*labels\.txt\): it holds model\.onnx$"):
        model_folder.find_models(tmp_path)


def test_what_a_folder_does_not_hold(repository: Path, artifact: Path) -> None:
    with pytest.raises(InvalidParameter, match="has no model cells, only ensemble, postprocess,"):
        model_folder.find_models(repository, "cells")
    with pytest.raises(InvalidParameter, match=r"must be an ensemble .* found no steps"):
        model_folder.find_models(repository, "ssd")
    with pytest.raises(InvalidParameter, match="ssd: version 3 expected, found 1, 2"):
        model_folder.find_models(repository, version=3)
    with pytest.raises(InvalidParameter, match="mine is an artifact, which has no version 1"):
        model_folder.find_models(artifact, version=1)
    shutil.rmtree(repository / "preprocess" / "1")
    with pytest.raises(InvalidParameter, match=r"preprocess: version 1 .* found no version folder"):
        model_folder.find_models(repository)


def test_a_malformed_configuration(repository: Path) -> None:
    edit(repository / "ssd" / "config.pbtxt", lambda text: text + "}")

    with pytest.raises(DetectorError, match=r"ssd/config\.pbtxt cannot be read: "):
        model_folder.find_models(repository)


def test_labels_are_lines_as_the_server_splits_them(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    with pytest.raises(DetectorError, match=r"labels\.txt is missing"):
        model_folder.read_labels(path)
    path.write_bytes(b"")
    assert model_folder.read_labels(path) == ()
    path.write_bytes("é\r\na\u2028b\n".encode() + b"\xff\n")
    assert model_folder.read_labels(path) == ("é", "a\u2028b", "\ufffd")
