"""A fleet that a module's tests share: two real servers with a canary behind a real Envoy."""

from collections.abc import Iterator

import pytest

from serving.fleet.fleet import Fleet, FleetSettings
from tests.demo.conftest import make_trial_repository


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    repository = make_trial_repository(tmp_path_factory.mktemp("trial"))
    with Fleet(FleetSettings(port=0, repository=str(repository))) as running:
        yield running
