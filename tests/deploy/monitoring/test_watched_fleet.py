"""A fleet under load that a real Prometheus watches: each panel of the dashboard has something to
show, and what breaks raises its own alert at a webhook, no other one, until it is mended.

A minute of the rules is a second here (benchmarks/monitoring/quicker.py).
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from benchmarks.load.steady import Steady
from benchmarks.monitoring.dashboard import fill_in, read_panels
from benchmarks.monitoring.stack import Stack
from benchmarks.monitoring.watched import Watched
from tests.conftest import wait_until

CALM = 10  # photos a second
LONGER = 15  # seconds that something stays broken after its first alert: others might follow
QUERIES = [
    pytest.param(query, id=f"{panel.title}: {legend}")
    for panel in read_panels()
    for legend, query in panel.queries.items()
]


@pytest.fixture(scope="module", autouse=True)
def load(watched: Watched) -> Iterator[Steady]:
    with Steady([watched.fleet.url], CALM) as running:
        yield running


@pytest.mark.parametrize("query", QUERIES)
def test_each_panel_has_something_to_show(watched: Watched, query: str) -> None:
    assert wait_until(lambda: watched.stack.query(fill_in(query)), 30)


def test_a_frozen_process(watched: Watched) -> None:
    found = alerts_of(watched.stack, watched.frozen_process())
    assert found == {("ticket", "SsdProbeFailing", "1")}


def test_a_frozen_server(watched: Watched) -> None:
    found = alerts_of(watched.stack, watched.frozen_server())
    assert found == {("ticket", "SsdDown", "2")}


def test_a_store_that_is_away(watched: Watched) -> None:
    found = alerts_of(watched.stack, watched.store_away())
    assert found == {("ticket", "SsdStoreAway", "1"), ("ticket", "SsdStoreAway", "2")}


def test_more_than_can_be_answered(watched: Watched) -> None:
    found = alerts_of(watched.stack, watched.overload())
    assert found == {("page", "SsdRefusing", "")}


def alerts_of(stack: Stack, trouble: AbstractContextManager[object]) -> set[tuple[str, str, str]]:
    """Receiver, name and server of all alerts that are told of some trouble, until none fires."""
    wait_until(lambda: not stack.webhook.firing())
    begin = len(stack.webhook.told)
    with trouble:
        wait_until(stack.webhook.firing)
        time.sleep(LONGER)
    wait_until(lambda: not stack.webhook.firing())
    return {(each.receiver, each.alert, each.server) for each in stack.webhook.told[begin:]}
