"""What a repository serves is read from its configurations."""

import shutil
from pathlib import Path

import pytest

from serving.errors import PublishError
from serving.model_config import make_canary_config, with_pin, with_policy
from serving.repository import State, list_models, list_tasks, open_repository
from serving.store.address import open_store
from serving.template import TEMPLATE

SHIPPED = open_store(TEMPLATE)
POLICY = (TEMPLATE / "ssd" / "config.pbtxt").read_text()
ENSEMBLE = (TEMPLATE / "ensemble" / "config.pbtxt").read_text()


def test_shipped_repository() -> None:
    repository = open_repository(SHIPPED, "ensemble")
    task = repository.task
    assert list_tasks(SHIPPED) == ["ensemble"]
    assert task.models == ("ensemble", "preprocess", "ssd", "postprocess")
    assert task.labels == ("RBC", "WBC", "Platelets")
    assert task.signature.images == (300, 300, 3)
    assert repository.versions() == [1, 2]
    assert repository.state() == State(2)
    assert repository.users(live=2) == {2: ["ensemble"]}


def test_resizing_of_a_repository(repository: Path) -> None:
    """One of before does not say; two steps that differ would show boxes in the wrong places."""
    store = open_store(repository)
    for model in ("preprocess", "postprocess"):
        path = repository / model / "config.pbtxt"
        path.write_text(path.read_text().replace('key: "resize"', 'key: "unknown"'))
    assert open_repository(store, "ensemble").task.signature.resize == "stretch"
    path.write_text(
        path.read_text().replace('"unknown"', '"resize"').replace("stretch", "letterbox")
    )
    said = "found stretch in preprocess, letterbox in postprocess: set what the networks"
    with pytest.raises(PublishError, match=said):
        open_repository(store, "ensemble")


def test_folder_that_is_empty(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert list_models(store) == list_tasks(store) == []
    with pytest.raises(PublishError, match="has no model ensemble, only nothing"):
        open_repository(store, "ensemble")


def test_model_that_is_no_ensemble() -> None:
    with pytest.raises(PublishError, match="must be an ensemble with one step that takes images"):
        open_repository(SHIPPED, "ssd")


def test_state_of_a_repository_with_a_canary(repository: Path) -> None:
    store = open_store(repository)
    task = open_repository(store, "ensemble")
    store.place("ssd/2", {"model.onnx": b"2"})
    assert task.state() == State(2)
    store.write("ssd/config.pbtxt", with_policy(POLICY, frozenset({1})).encode())
    assert task.state() == State(1)
    store.write("ensemble/config.pbtxt", with_pin(ENSEMBLE, "ssd", 1).encode())
    canary = make_canary_config(ENSEMBLE, "ensemble", "ssd", 2, 0.1).encode()
    store.place("ensemble_canary", {"1/.keep": b"", "config.pbtxt": canary})
    assert task.state() == State(1, canary=2, share=0.1)
    assert list_tasks(store) == ["ensemble"]
    assert task.users(live=1) == {1: ["ensemble"], 2: ["ensemble_canary"]}


def test_versions_are_numbers(repository: Path) -> None:
    store = open_store(repository)
    task = open_repository(store, "ensemble")
    for name in ("2", "10", "notes"):
        store.place(f"ssd/{name}", {"model.onnx": b""})
    assert task.versions() == [1, 2, 10]


def test_version_that_a_variant_names_is_held(tmp_path: Path) -> None:
    store = open_store(shutil.copytree(TEMPLATE, tmp_path / "models"))
    mine = store.read("ensemble/config.pbtxt").decode().replace('name: "ensemble"', 'name: "mine"')
    store.place("mine", {"1/.keep": b"", "config.pbtxt": mine.encode()})
    store.write("mine/configs/a.pbtxt", with_pin(mine, "ssd", 7).encode())
    task = open_repository(store, "ensemble")
    assert task.users(live=1) == {1: ["ensemble", "mine"], 7: ["mine"]}
