"""What one who sends too much, too slowly, or gives up can do: little."""

import os
import select
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import httpcore2
import psutil
import pytest

from benchmarks.load import http2
from benchmarks.load.transport import clock
from client import Detector
from serving.control import sample_photo
from serving.fleet.configuration import GatewaySettings
from serving.fleet.fleet import Fleet
from serving.fleet.gateway import Gateway
from serving.tuning.load_generator import METHOD, serialise_request
from tests.conftest import wait_until
from tests.serving.fleet.test_gateway import refusal, request, stub_of

CONNECTIONS = 30
PATIENCE = 20.0  # seconds: less than what the next longer limit takes
INFER = b"POST /v2/models/ensemble/infer HTTP/1.1\r\nHost: localhost\r\n"
LATE = b'{"error":"the request was not received within the time it may take"}\n'


@pytest.fixture(scope="module")
def strict(fleet: Fleet) -> Iterator[Gateway]:
    """A second gateway in front of the same servers."""
    settings = GatewaySettings(port=0, request_seconds=2.0, connections=CONNECTIONS, memory_mb=128)
    with Gateway(settings, fleet.addresses()) as gateway:
        yield gateway


def connect(url: str) -> socket.socket:
    host, port = url.split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def exchange(url: str, data: bytes) -> bytes:
    """What comes back until the gateway closes the connection."""
    with connect(url) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


class Caller(http2.Http2):
    """A gRPC client whose requests may stay unfinished."""

    def __init__(self, url: str, **metadata: str) -> None:
        body = serialise_request(sample_photo(), "ensemble", "image")
        super().__init__(url, METHOD, [body], metadata)

    def begin(self) -> int:
        """Send a request but for its end; returns its stream."""
        stream = self._next_stream
        self._next_stream += 2
        self._streams[stream] = http2.Stream(0, clock(), b"", 0)
        head = http2.frame(http2.HEADERS, http2.END_HEADERS, stream, self._head)
        self._socket.sendall(head + http2.frame(http2.DATA, 0, stream, b"\0\0\0\1\0half"))
        return stream

    def come_and_go(self, times: int) -> None:
        """Begin a request and cancel it at once, so many times."""
        for _ in range(times):
            stream = self.begin()
            self._socket.sendall(http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", 8)))

    def go_on(self, stream: int) -> None:
        """Send one byte more."""
        self._socket.sendall(http2.frame(http2.DATA, 0, stream, b"x"))

    def statuses(self, count: int, meanwhile: Callable[[], object] = lambda: None) -> Counter[str]:
        """How the first so many requests ended."""
        found: Counter[str] = Counter()
        deadline = time.monotonic() + PATIENCE
        while found.total() < count and time.monotonic() < deadline:
            found.update(answer.status for answer in self.wait(0.1))
            if not found:
                meanwhile()
        return found


def test_headers_that_come_slowly(fleet: Fleet) -> None:
    """After five seconds, not when the request has had its time."""
    assert exchange(fleet.url, INFER).endswith(LATE)


def test_a_body_that_comes_slowly(strict: Gateway) -> None:
    """Something comes all the time, so that nothing is idle."""
    with connect(strict.url) as connection:
        connection.sendall(INFER + b"Content-Length: 100000\r\n\r\n")
        deadline = time.monotonic() + PATIENCE
        while not select.select([connection], [], [], 0.2)[0] and time.monotonic() < deadline:
            connection.sendall(b"x")
        answer = connection.recv(2**16)
    assert answer.startswith(b"HTTP/1.1 408")
    assert answer.endswith(LATE)


def test_a_message_that_comes_slowly(strict: Gateway) -> None:
    caller = Caller(strict.url)
    stream = caller.begin()
    found = caller.statuses(1, lambda: caller.go_on(stream))
    assert found == {"DEADLINE_EXCEEDED": 1}
    caller.close()


@pytest.mark.parametrize(
    "headers",
    [b"name: " + b"x" * 20_000 + b"\r\n", b"".join(b"n%d: x\r\n" % n for n in range(120))],
    ids=["large", "many"],
)
def test_headers_that_are_too_much(fleet: Fleet, headers: bytes) -> None:
    answer = exchange(fleet.url, INFER + headers + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431")
    assert answer.endswith(b'{"error":"the headers are larger than 16 KiB, or more than 100"}\n')


def test_a_server_that_takes_too_long(fleet: Fleet, strict: Gateway) -> None:
    for server in fleet.servers:
        os.kill(server.process.pid, signal.SIGSTOP)
    try:
        with stub_of(strict.url) as stub:
            error = refusal(stub.ModelInfer, request(sample_photo()))
        with httpcore2.ConnectionPool() as pool:
            answer = pool.request("GET", f"http://{strict.url}/v2/models/ensemble")
    finally:
        for server in fleet.servers:
            os.kill(server.process.pid, signal.SIGCONT)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.details() == "no server answered within 2.0 s"
    assert (answer.status, answer.content) == (
        504,
        b'{"error":"no server answered within 2.0 s"}\n',
    )
    wait_until(lambda: len(fleet.gateway.healthy()) == len(strict.healthy()) == 2)


def test_connections_that_are_too_many(strict: Gateway) -> None:
    held = [connect(strict.url) for _ in range(CONNECTIONS)]
    with connect(strict.url) as one_more:
        assert one_more.recv(1) == b""
    with httpcore2.ConnectionPool() as pool:  # whoever watches it is let in
        assert pool.request("GET", f"http://{strict.metrics_url}/metrics").status == 200
    assert len(strict.healthy()) == 2
    for connection in held:
        connection.close()
    with Detector(strict.url, timeout=30) as detector:
        assert detector.detect(sample_photo()).model


def test_requests_on_one_connection_that_are_too_many(strict: Gateway) -> None:
    caller = Caller(strict.url)
    for _ in range(300):
        caller.begin()
    assert caller.statuses(44) == {"RESET": 44}
    caller.close()


def test_who_cancels_without_end_is_cut_off(fleet: Fleet) -> None:
    """HTTP/2's rapid reset, CVE-2023-44487."""
    caller = Caller(fleet.url)
    with pytest.raises(ConnectionError):
        caller.come_and_go(20_000)
    caller.close()


def test_requests_that_were_given_up_do_not_reach_a_server(fleet: Fleet) -> None:
    before = answered(fleet)
    caller = Caller(fleet.url, **{"grpc-timeout": "100m"})
    for _ in range(200):
        caller.begin()
    assert caller.statuses(200) == {"DEADLINE_EXCEEDED": 200}
    caller.close()
    leaving = Caller(fleet.url)
    leaving.come_and_go(200)
    leaving.close()
    with Detector(fleet.url, timeout=30) as detector:
        assert detector.detect(sample_photo()).model
    assert answered(fleet) - before < 200  # the checks are counted, too


def answered(fleet: Fleet) -> int:
    total = 0
    for server in fleet.servers:
        with server.control() as control:
            total += control.answered("ensemble", "")
    return total


def test_memory_has_a_bound(strict: Gateway) -> None:
    """Thirty uploads of 60 MiB each would take 1.8 GiB."""
    envoy = psutil.Process(strict.envoy.pid)
    cut_off, largest = 0, 0
    connections = [connect(strict.url) for _ in range(CONNECTIONS)]
    try:
        for connection in connections:
            connection.sendall(INFER + b"Content-Length: %d\r\n\r\n" % (60 * 2**20))
        for _ in range(59):
            cut_off = sum(not has_sent(connection, bytes(2**20)) for connection in connections)
            largest = max(largest, envoy.memory_info().rss)
            if cut_off == len(connections):
                break
    finally:
        for connection in connections:
            connection.close()
    assert cut_off > 0
    assert largest < 500 * 2**20
    with Detector(strict.url, retries=20, timeout=60) as detector:
        assert detector.detect(sample_photo()).model


def has_sent(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True
