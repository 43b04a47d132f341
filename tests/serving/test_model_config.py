"""What a configuration says is edited, and nothing else in its text; variants are found."""

from pathlib import Path

import pytest

from client.versions import pin_of
from serving.errors import PublishError
from serving.model_config import (
    list_configs,
    list_variants,
    make_canary_config,
    parse_config,
    read_config,
    with_pin,
    with_policy,
)
from serving.repository import list_models
from serving.store.address import open_store
from serving.template import TEMPLATE

POLICY = (TEMPLATE / "ssd" / "config.pbtxt").read_text()
ENSEMBLE = (TEMPLATE / "ensemble" / "config.pbtxt").read_text()


def comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.lstrip().startswith("#")]


@pytest.mark.parametrize("served", [frozenset({3}), frozenset({2, 10}), None])
def test_policy_is_changed_and_nothing_else(served: frozenset[int] | None) -> None:
    once = with_policy(POLICY, served)
    policy = parse_config(once).version_policy
    assert sorted(policy.specific.versions) == sorted(served or [])
    assert policy.latest.num_versions == (0 if served else 1)
    assert comments(once) == comments(POLICY)
    assert with_policy(once, None) == POLICY


def test_pin_is_changed_and_nothing_else() -> None:
    once = with_pin(ENSEMBLE, "ssd", 12)
    assert pin_of(parse_config(once), "ssd") == 12
    assert pin_of(parse_config(once), "preprocess") == -1
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
    changed = parse_config(with_policy(text, frozenset({4})))
    assert list(changed.version_policy.specific.versions) == [4]
    assert changed.name == "ssd"


def test_canary() -> None:
    config = parse_config(make_canary_config(ENSEMBLE, "ensemble", "ssd", version=7, share=0.25))
    assert config.name == "ensemble_canary"
    assert pin_of(config, "ssd") == 7
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "canary_share": "0.25",
        "canary_version": "7",
    }
    stable = parse_config(ENSEMBLE)
    assert (config.input, config.output) == (stable.input, stable.output)


def test_malformed_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "ssd").mkdir()
    (tmp_path / "ssd" / "config.pbtxt").write_text("name: ")
    with pytest.raises(PublishError, match=r"ssd/config\.pbtxt cannot be read"):
        read_config(open_store(tmp_path), "ssd")


def test_variants(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert list_configs(store, "ssd") == []
    assert list_variants(store.files()) == {}
    for path in ("ssd/config.pbtxt", "ssd/configs/a.pbtxt", "ssd/configs/notes.txt"):
        store.write(path, b'name: "ssd"')
    store.write("ssd/configs/a.pbtxt", b'name: "ssd" max_batch_size: 3')
    store.write("ssd_2/configs/b.pbtxt", b'name: "ssd_2"')
    assert list_configs(store, "ssd") == ["ssd/config.pbtxt", "ssd/configs/a.pbtxt"]
    assert list_variants(store.files()) == {"a": ["ssd"], "b": ["ssd_2"]}
    assert read_config(store, "ssd", "a").max_batch_size == 3
    assert read_config(store, "ssd", "b").max_batch_size == 0
    assert list_models(store) == ["ssd"]
