"""More than the servers can do: who is refused, how, and who is not."""

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpcore2
import pytest

from benchmarks.load.http2 import Http2
from benchmarks.load.transport import clock
from client import Detector, ServerUnavailable
from serving.control import sample_photo
from serving.fleet.configuration import GatewaySettings
from serving.fleet.fleet import Fleet
from serving.fleet.gateway import Gateway
from serving.tuning.load_generator import METHOD, serialise_request
from tests.conftest import wait_until

PLACES = 2 * 16  # for interactive requests, in two servers
BULK = {"priority": "u=7"}


def send(url: str, count: int, metadata: dict[str, str] | None = None) -> Http2:
    body = serialise_request(sample_photo(), "ensemble", "image")
    transport = Http2(url, METHOD, [body], metadata or {})
    for _ in range(count):
        transport.send(0, clock())
    return transport


def collect(transport: Http2, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    deadline = time.monotonic() + 60
    while found.total() < count and time.monotonic() < deadline:
        found.update(answer.status for answer in transport.wait(0.1))
    transport.close()
    return found


def count_in(gateway: Gateway, name: str) -> int:
    """One of Envoy's own counts."""
    return int(gateway.envoy.ask(f"/stats?filter=^{name}$").rpartition(":")[2])


def test_bulk_work_leaves_room_for_the_others(fleet: Fleet) -> None:
    bulk = send(fleet.url, 200, BULK)
    others = send(fleet.url, PLACES)
    assert collect(others, PLACES) == {"OK": PLACES}
    found = collect(bulk, 200)
    assert set(found) == {"OK", "UNAVAILABLE"}
    assert found.total() == 200


def test_the_gateway_does_not_ask_again_what_it_refused(fleet: Fleet) -> None:
    name = "cluster.triton_grpc.upstream_rq_"
    before = count_in(fleet.gateway, name + "retry")
    assert collect(send(fleet.url, 200), 200)["UNAVAILABLE"] > 0
    assert count_in(fleet.gateway, name + "active_overflow") > 0
    assert count_in(fleet.gateway, name + "retry") == before


def test_a_server_that_is_only_slow_stays(fleet: Fleet) -> None:
    """As in overload: its check waits behind the requests that it has."""
    failures = "cluster.triton_grpc.health_check.failure"
    before = count_in(fleet.gateway, failures)
    pid = fleet.servers[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3)  # how long it is slow: nothing to wait for
    os.kill(pid, signal.SIGCONT)
    attempts = count_in(fleet.gateway, "cluster.triton_grpc.health_check.attempt")
    name = "cluster.triton_grpc.health_check.attempt"
    wait_until(lambda: count_in(fleet.gateway, name) > attempts + 2)
    assert count_in(fleet.gateway, failures) == before


@pytest.fixture(scope="module")
def fair(fleet: Fleet) -> Iterator[Gateway]:
    settings = GatewaySettings(port=0, client_requests_per_second=5)
    with Gateway(settings, fleet.addresses()) as gateway:
        yield gateway


def test_a_greedy_client_leaves_the_others_alone(fair: Gateway) -> None:
    found = collect(send(fair.url, 100), 100)
    assert set(found) == {"OK", "RESOURCE_EXHAUSTED"}
    assert found["OK"] < 50
    ask = b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
    host, port = fair.url.split(":")
    for number in range(2, 20):
        source = (f"127.0.0.{number}", 0)
        with socket.create_connection((host, int(port)), 20, source_address=source) as other:
            other.sendall(ask)
            assert other.recv(100).startswith(b"HTTP/1.1 200")


def test_with_keys_it_is_the_owner_who_has_a_share(fleet: Fleet, tmp_path: Path) -> None:
    keys = {name: f"{name}-0123456789abcdef" for name in ("greedy", "modest")}
    (tmp_path / "keys.txt").write_text("".join(f"{name} {key}\n" for name, key in keys.items()))
    settings = GatewaySettings(
        port=0, client_requests_per_second=5, keys_file=tmp_path / "keys.txt"
    )
    with Gateway(settings, fleet.addresses()) as gateway:
        found = collect(send(gateway.url, 100, {"x-api-key": keys["greedy"]}), 100)
        assert set(found) == {"OK", "RESOURCE_EXHAUSTED"}
        assert collect(send(gateway.url, 5, {"x-api-key": keys["modest"]}), 5) == {"OK": 5}


def test_a_greedy_client_is_told_when_to_come_again(fair: Gateway) -> None:
    words = "more than 5 requests a second: try again a little later"
    with Detector(fair.url, retries=0) as detector:
        error = wait_until(lambda: refusal_of(detector))
    assert error
    assert words in str(error)
    assert error.retry_after == 1
    with httpcore2.ConnectionPool() as pool:
        answers = [pool.request("GET", f"http://{fair.url}/v2") for _ in range(30)]
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.content == b'{"error":"%b"}\n' % words.encode()
    assert (b"retry-after", b"1") in refused.headers


def refusal_of(detector: Detector) -> ServerUnavailable | None:
    try:
        detector.detect(sample_photo())
    except ServerUnavailable as error:
        return error
    return None
