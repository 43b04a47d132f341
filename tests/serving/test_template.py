"""Rendering the template keeps all but the task."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.artifact import read_artifact
from serving.model_config import list_variants, read_config
from serving.repository import list_models, open_repository
from serving.store.address import open_store
from serving.template import TEMPLATE, render_template


def test_render(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render_template(TEMPLATE, artifact, tmp_path / "new")
    repository = open_repository(open_store(tmp_path / "new"), "ensemble")
    task = repository.task
    assert (task.labels, task.signature) == (("a", "b"), artifact.signature)
    assert repository.versions() == [1]
    code = Path("preprocess") / "1"
    for file in ("model.py", "__pycache__"):
        assert (tmp_path / "new" / code / file).read_bytes() == (
            TEMPLATE / code / file
        ).read_bytes()
    assert (tmp_path / "new" / "ensemble" / "1" / ".keep").exists()


def test_render_under_another_name(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render_template(TEMPLATE, artifact, tmp_path / "new", "road")
    store = open_store(tmp_path / "new")
    assert list_models(store) == ["road", "road_postprocess", "road_preprocess", "road_ssd"]
    assert open_repository(store, "road").task.network == "road_ssd"
    assert [read_config(store, model).name for model in list_models(store)] == list_models(store)


def test_every_tensor_between_the_models_has_the_new_size(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render_template(TEMPLATE, artifact, tmp_path / "new")
    store = open_store(tmp_path / "new")
    for config in [read_config(store, model) for model in list_models(store)]:
        for tensor in [*config.input, *config.output]:
            expected = getattr(artifact.signature, tensor.name, tuple(tensor.dims))
            assert tuple(tensor.dims) == expected


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_photos_are_resized_as_the_network_was_trained(
    resize: str, make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = read_artifact(make_artifact(resize=resize))
    template = shutil.copytree(TEMPLATE, tmp_path / "template")
    (template / "preprocess" / "configs").mkdir()
    shutil.copy(
        template / "preprocess" / "config.pbtxt", template / "preprocess" / "configs/a.pbtxt"
    )
    render_template(template, artifact, tmp_path / "new")
    store = open_store(tmp_path / "new")
    assert open_repository(store, "ensemble").task.signature.resize == resize
    variant = read_config(store, "preprocess", "a")
    assert variant.parameters["resize"].string_value == resize


def test_boxes_are_merged_as_the_network_was_measured(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_artifact()
    wanted = {"iou_threshold": 0.6, "voting_iou": 0.8, "score_thresholds": [0.4, 0.55, 0.5]}
    card = json.loads((folder / "card.json").read_text()) | wanted
    (folder / "card.json").write_text(json.dumps(card))
    render_template(TEMPLATE, read_artifact(folder), tmp_path / "new")
    config = read_config(open_store(tmp_path / "new"), "postprocess")
    assert {name: json.loads(config.parameters[name].string_value) for name in wanted} == wanted


def test_render_fits_variants(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(("a", "b"), size=200, keep=50))
    template = shutil.copytree(TEMPLATE, tmp_path / "template")
    shutil.copy(
        template / "ssd" / "configs" / "gpu.pbtxt", template / "ssd" / "configs" / "2x.pbtxt"
    )
    render_template(template, artifact, tmp_path / "new", "road")
    store = open_store(tmp_path / "new")
    assert list_variants(store.files()) == {
        name: ["road_ssd"] for name in ("2x", "gpu", "tensorrt")
    }
    for name in ("2x", "gpu", "tensorrt"):
        config = read_config(store, "road_ssd", name)
        assert config.name == "road_ssd"
        assert list(config.input[0].dims) == [200, 200, 3]
        assert [list(tensor.dims) for tensor in config.output] == [[50, 4], [50, 2]]
        for sample in config.model_warmup:
            assert list(sample.inputs["images"].dims) == [200, 200, 3]
        assert config.instance_group[0].count == 1
