"""A fleet that a real Prometheus and Alertmanager watch."""

from collections.abc import Iterator

import pytest

from benchmarks.monitoring.watched import Watched, watch_fleet


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watch_fleet(tmp_path_factory.mktemp("monitoring")) as running:
        yield running
