"""A server that runs with a variant of the configurations, through every release command."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.model_config import list_configs, list_variants, parse_config
from serving.release.promote import (
    PromoteSettings,
    RollbackSettings,
    promote,
    rollback,
)
from serving.release.publish import (
    CanarySettings,
    PublishSettings,
    canary,
    publish,
)
from serving.repository import open_repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from serving.store.base import Store
from tests.conftest import make_bucket
from tests.serving.conftest import copy_repository
from tests.serving.service import Service

COMMENT = "# of this machine\n"
UNTRIED: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}


def write_variant(store: Store, model: str, instances: int) -> None:
    """A variant that differs from config.pbtxt in its instances."""
    config = parse_config(store.read(f"{model}/config.pbtxt").decode())
    if not config.ensemble_scheduling.step:
        del config.instance_group[:]
        config.instance_group.add(kind="KIND_CPU", count=instances)
    store.write(f"{model}/configs/mine.pbtxt", (COMMENT + str(config)).encode())


@pytest.fixture(scope="module", params=["folder", "s3"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A server over a network of a known answer, and a variant of two models."""
    repository = copy_repository(tmp_path_factory.mktemp("variants") / "models", score=0.9)
    for model, instances in (("ssd", 1), ("ensemble", 0)):
        write_variant(open_store(repository), model, instances)
    place: Any = repository
    if request.param == "s3":
        place = make_bucket(request.getfixturevalue("moto_server"))
        open_store(place).create(repository)
    settings = ServerSettings(place, model_config_name="mine", probe_seconds=60)
    with EmbeddedServer(settings) as server:
        yield Service(place, server)


def instances(service: Service) -> int:
    """How many of the network the server runs."""
    with service.server.control() as control:
        return control.instances("ssd")


def policies(store: Store) -> list[str]:
    """What each configuration of the network serves, gpu's and tensorrt's among them."""
    return [
        str(parse_config(store.read(p).decode()).version_policy) for p in list_configs(store, "ssd")
    ]


def test_every_release_command_under_load(
    service: Service, make_artifact: Callable[..., Path]
) -> None:
    where, store = service.where(), open_store(service.repository)
    before = policies(store)
    assert len(before) == 4
    assert instances(service) == 1
    with service.used() as scores:
        publish(PublishSettings(artifact=make_artifact(score=0.8), **where, **UNTRIED))
        assert (service.score(), instances(service)) == (0.8, 1)
        canary(CanarySettings(artifact=make_artifact(score=0.7), **where, **UNTRIED))
        assert (service.score(), service.score("ensemble_canary")) == (0.8, 0.7)
        assert len(set(policies(store))) == 1
        promote(PromoteSettings(**where))
        assert (service.score(), instances(service)) == (0.7, 1)
        rollback(RollbackSettings(**where))
        assert (service.score(), instances(service)) == (0.8, 1)
    assert scores <= {0.9, 0.8, 0.7}
    assert open_repository(store, "ensemble").state().live == 2
    assert len(set(policies(store))) == 1
    promote(PromoteSettings(version=3, **where))
    assert policies(store) == before
    for model in ("ssd", "ensemble"):
        assert store.read(f"{model}/configs/mine.pbtxt").decode().startswith(COMMENT)
    assert "ensemble_canary/configs/mine.pbtxt" not in store.files()


def test_changed_variant_is_loaded_when_told(service: Service) -> None:
    write_variant(open_store(service.repository), "ssd", 2)
    with service.server.control() as control:
        control.load("ssd")
        assert control.instances("ssd") == 2
        assert control.instances("preprocess") == 1  # it has no variant
        write_variant(open_store(service.repository), "ssd", 1)
        control.load("ssd")


def test_gpu_variants_do_not_disturb(service: Service) -> None:
    """They are the shipped ones, and the server above runs beside them."""
    found = list_variants(open_store(service.repository).files())
    assert found == {"gpu": ["ssd"], "tensorrt": ["ssd"], "mine": ["ensemble", "ssd"]}
