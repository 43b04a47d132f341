"""A fleet that a module's tests share: two real servers behind a real Envoy."""

from collections.abc import Iterator

import pytest

from serving.fleet.fleet import Fleet, FleetSettings
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    settings = FleetSettings(port=0, repository=str(PROJECT / "model_repository"))
    with Fleet(settings) as running:
        yield running
