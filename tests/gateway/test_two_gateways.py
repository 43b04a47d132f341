"""Two gateways in front of the same servers, in a client's own list: one of them is killed."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from serving.fleet.fleet import Fleet
from serving.fleet.gateway import Gateway
from tests.client.transports.test_several_servers import CASES, Loads, loads_over
from tests.conftest import wait_until


@pytest.fixture(scope="module")
def outage(fleet: Fleet, smear: Path) -> Loads:
    settings = replace(fleet.settings, port=0, gateway_metrics_port=0)
    with Gateway(settings, fleet.addresses()) as killed:

        def kill() -> None:
            pid = killed.envoy.pid
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: killed.envoy.pid != pid)

        pair = [killed.url, fleet.url]
        urls = {"gRPC": pair, "HTTP": [f"http://{url}" for url in pair]}
        return loads_over(urls, kill, smear)


@pytest.mark.parametrize(("protocol", "kind"), CASES)
def test_no_request_fails_while_one_of_two_gateways_is_killed(
    outage: Loads, protocol: str, kind: str
) -> None:
    load = outage[protocol, kind]
    assert load.errors == []
    assert len(load.servers) == 2
    assert min(load.servers.values()) > 10
