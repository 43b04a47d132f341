"""What a repository serves is read from its configurations; rendering keeps all but the task."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from client.versions import pin_of
from serving.artifact import read_artifact
from serving.errors import PublishError
from serving.repository import (
    TEMPLATE,
    State,
    canary_config,
    config_files,
    holders,
    models,
    parse,
    read_config,
    read_state,
    read_task,
    render,
    tasks,
    variants,
    versions,
    with_pin,
    with_policy,
)
from serving.store.address import open_store

SHIPPED = open_store(TEMPLATE)
POLICY = (TEMPLATE / "ssd" / "config.pbtxt").read_text()
ENSEMBLE = (TEMPLATE / "ensemble" / "config.pbtxt").read_text()


def comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.lstrip().startswith("#")]


def test_shipped_repository() -> None:
    task = read_task(SHIPPED, "ensemble")
    assert tasks(SHIPPED) == ["ensemble"]
    assert task.models == ("ensemble", "preprocess", "ssd", "postprocess")
    assert task.labels == ("RBC", "WBC", "Platelets")
    assert task.signature.images == (300, 300, 3)
    assert versions(SHIPPED, task) == [1, 2]
    assert read_state(SHIPPED, task) == State(2)
    assert holders(SHIPPED, task, live=2) == {2: ["ensemble"]}


def test_folder_that_is_empty(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert models(store) == tasks(store) == []
    with pytest.raises(PublishError, match="has no model ensemble, only nothing"):
        read_task(store, "ensemble")


def test_model_that_is_no_ensemble() -> None:
    with pytest.raises(PublishError, match="must be an ensemble with one step that takes images"):
        read_task(SHIPPED, "ssd")


@pytest.mark.parametrize("served", [frozenset({3}), frozenset({2, 10}), None])
def test_policy_is_changed_and_nothing_else(served: frozenset[int] | None) -> None:
    once = with_policy(POLICY, served)
    policy = parse(once).version_policy
    assert sorted(policy.specific.versions) == sorted(served or [])
    assert policy.latest.num_versions == (0 if served else 1)
    assert comments(once) == comments(POLICY)
    assert with_policy(once, None) == POLICY


def test_pin_is_changed_and_nothing_else() -> None:
    once = with_pin(ENSEMBLE, "ssd", 12)
    assert pin_of(parse(once), "ssd") == 12
    assert pin_of(parse(once), "preprocess") == -1
    assert with_pin(once, "ssd", -1) == ENSEMBLE


@pytest.mark.parametrize(
    "text",
    [
        'name: "ssd"',
        'name: "ssd" version_policy: { all: {} } # version_policy { latest {} }',
        'name: "ssd" # version_policy { latest { num_versions: 1 } }\nmax_batch_size: 8',
    ],
)
def test_configuration_written_in_another_way(text: str) -> None:
    changed = parse(with_policy(text, frozenset({4})))
    assert list(changed.version_policy.specific.versions) == [4]
    assert changed.name == "ssd"


def test_canary(tmp_path: Path) -> None:
    task = read_task(SHIPPED, "ensemble")
    config = parse(canary_config(ENSEMBLE, task, version=7, share=0.25))
    assert config.name == "ensemble_canary"
    assert pin_of(config, "ssd") == 7
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "canary_share": "0.25",
        "canary_version": "7",
    }
    stable = parse(ENSEMBLE)
    assert (config.input, config.output) == (stable.input, stable.output)


def test_state_of_a_repository_with_a_canary(repository: Path) -> None:
    store = open_store(repository)
    task = read_task(store, "ensemble")
    store.place("ssd/2", {"model.onnx": b"2"})
    assert read_state(store, task) == State(2)
    store.write("ssd/config.pbtxt", with_policy(POLICY, frozenset({1})).encode())
    assert read_state(store, task) == State(1)
    store.write("ensemble/config.pbtxt", with_pin(ENSEMBLE, "ssd", 1).encode())
    canary = canary_config(ENSEMBLE, task, 2, 0.1).encode()
    store.place("ensemble_canary", {"1/.keep": b"", "config.pbtxt": canary})
    assert read_state(store, task) == State(1, canary=2, share=0.1)
    assert tasks(store) == ["ensemble"]
    assert holders(store, task, live=1) == {1: ["ensemble"], 2: ["ensemble_canary"]}


def test_render(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render(TEMPLATE, artifact, tmp_path / "new")
    task = read_task(open_store(tmp_path / "new"), "ensemble")
    assert (task.labels, task.signature) == (("a", "b"), artifact.signature)
    assert versions(open_store(tmp_path / "new"), task) == [1]
    code = Path("preprocess") / "1"
    for file in ("model.py", "__pycache__"):
        assert (tmp_path / "new" / code / file).read_bytes() == (
            TEMPLATE / code / file
        ).read_bytes()
    assert (tmp_path / "new" / "ensemble" / "1" / ".keep").exists()


def test_render_under_another_name(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render(TEMPLATE, artifact, tmp_path / "new", "road")
    store = open_store(tmp_path / "new")
    assert models(store) == ["road", "road_postprocess", "road_preprocess", "road_ssd"]
    assert read_task(store, "road").network == "road_ssd"
    assert [read_config(store, model).name for model in models(store)] == models(store)


def test_every_tensor_between_the_models_has_the_new_size(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render(TEMPLATE, artifact, tmp_path / "new")
    store = open_store(tmp_path / "new")
    for config in [read_config(store, model) for model in models(store)]:
        for tensor in [*config.input, *config.output]:
            expected = getattr(artifact.signature, tensor.name, tuple(tensor.dims))
            assert tuple(tensor.dims) == expected


def test_versions_are_numbers(repository: Path) -> None:
    store = open_store(repository)
    task = read_task(store, "ensemble")
    for name in ("2", "10", "notes"):
        store.place(f"ssd/{name}", {"model.onnx": b""})
    assert versions(store, task) == [1, 2, 10]


def test_malformed_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "ssd").mkdir()
    (tmp_path / "ssd" / "config.pbtxt").write_text("name: ")
    with pytest.raises(PublishError, match=r"ssd/config\.pbtxt cannot be read"):
        read_config(open_store(tmp_path), "ssd")


def test_variants(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert config_files(store, "ssd") == []
    assert variants(store.files()) == {}
    for path in ("ssd/config.pbtxt", "ssd/configs/a.pbtxt", "ssd/configs/notes.txt"):
        store.write(path, b'name: "ssd"')
    store.write("ssd/configs/a.pbtxt", b'name: "ssd" max_batch_size: 3')
    store.write("ssd_2/configs/b.pbtxt", b'name: "ssd_2"')
    assert config_files(store, "ssd") == ["ssd/config.pbtxt", "ssd/configs/a.pbtxt"]
    assert variants(store.files()) == {"a": ["ssd"], "b": ["ssd_2"]}
    assert read_config(store, "ssd", "a").max_batch_size == 3
    assert read_config(store, "ssd", "b").max_batch_size == 0
    assert models(store) == ["ssd"]


def test_version_that_a_variant_names_is_held(tmp_path: Path) -> None:
    store = open_store(shutil.copytree(TEMPLATE, tmp_path / "models"))
    mine = store.read("ensemble/config.pbtxt").decode().replace('name: "ensemble"', 'name: "mine"')
    store.place("mine", {"1/.keep": b"", "config.pbtxt": mine.encode()})
    store.write("mine/configs/a.pbtxt", with_pin(mine, "ssd", 7).encode())
    task = read_task(store, "ensemble")
    assert holders(store, task, live=1) == {1: ["ensemble", "mine"], 7: ["mine"]}


def test_render_fits_variants(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(("a", "b"), size=200, keep=50))
    template = shutil.copytree(TEMPLATE, tmp_path / "template")
    shutil.copy(
        template / "ssd" / "configs" / "gpu.pbtxt", template / "ssd" / "configs" / "2x.pbtxt"
    )
    render(template, artifact, tmp_path / "new", "road")
    store = open_store(tmp_path / "new")
    assert variants(store.files()) == {name: ["road_ssd"] for name in ("2x", "gpu", "tensorrt")}
    for name in ("2x", "gpu", "tensorrt"):
        config = read_config(store, "road_ssd", name)
        assert config.name == "road_ssd"
        assert list(config.input[0].dims) == [200, 200, 3]
        assert [list(tensor.dims) for tensor in config.output] == [[50, 4], [50, 2]]
        for sample in config.model_warmup:
            assert list(sample.inputs["images"].dims) == [200, 200, 3]
        assert config.instance_group[0].count == 1
