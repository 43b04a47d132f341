"""The line about what `serving up` knows: shown where somebody tells it, else nothing."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from client.errors import ServerUnavailable
from demo.facts import describe_supervision
from serving.monitoring.service_metrics import ServiceMetrics
from serving.server.server import EmbeddedServer
from tests.demo.program import Program


def refuse() -> str:
    raise ServerUnavailable("no metrics can be read there")


@pytest.mark.parametrize("metrics", [refuse, lambda: "", lambda: "<html>"])
def test_nothing_is_told_where_nothing_is_known(metrics: Callable[[], str]) -> None:
    assert describe_supervision(metrics) == ""


def test_a_line_of_what_is_known() -> None:
    line = describe_supervision(ServiceMetrics("models").text)
    assert line.startswith("<p>")
    assert "no probe yet; restarts since 20" in line


@pytest.fixture
def page_with_metrics(trial_server: EmbeddedServer) -> Iterator[str]:
    url = f"http://{trial_server.supervisor_url}/metrics"
    program = Program("--url", trial_server.grpc_url, "--metrics-url", url)
    yield program.address
    assert program.stop() == 0
    assert "Traceback" not in program.printed


def test_the_page_shows_it(browser: Browser, page_with_metrics: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(page_with_metrics)
    expect(page.locator("#supervision")).to_contain_text("ensemble version 2 live since 20")
    context.close()
