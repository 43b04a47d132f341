"""A fleet under load that a real Prometheus watches: each panel of the dashboard has something to
show, and what breaks raises its own alert at a webhook, no other one, until it is mended.

A minute of the rules is two seconds here (benchmarks/monitoring/quicker.py).
"""

import time
from contextlib import AbstractContextManager

from benchmarks.load.steady import Steady
from benchmarks.monitoring.dashboard import fill_in, read_panels
from benchmarks.monitoring.stack import FIRING, Stack
from benchmarks.monitoring.watched import Watched
from tests.conftest import wait_until

LONGER = 10  # seconds that something stays broken after its first alert: others might follow


def test_each_panel_has_something_to_show(watched: Watched) -> None:
    queries = {
        f"{panel.title}: {query}": fill_in(query)
        for panel in read_panels()
        for query in panel.queries.values()
    }
    assert len(queries) > 30
    url = watched.fleet.url
    with Steady([url], rate=10), Steady([f"http://{url}"], rate=5):
        for what, query in queries.items():
            assert wait_until(lambda query=query: watched.stack.query(query), 60), what  # type: ignore[misc]


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
    wait_until(lambda: not stack.query(FIRING) and not stack.webhook.firing())
    begin = len(stack.webhook.told)
    with trouble:
        wait_until(stack.webhook.firing)
        time.sleep(LONGER)
    wait_until(lambda: not stack.webhook.firing())
    return {(each.receiver, each.alert, each.server) for each in stack.webhook.told[begin:]}
