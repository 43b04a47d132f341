"""Whoever asks is answered, whoever breaks off or says nothing disturbs nobody."""

import socket
import struct
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from serving.monitoring.metrics_port import MetricsPort


@pytest.fixture(params=["127.0.0.1", "::1"])
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsPort]:
    monkeypatch.setattr(MetricsPort, "seconds", 0.3)
    registry = CollectorRegistry()
    Gauge("ssd_something", "Something.", registry=registry).set(7)
    running = MetricsPort(request.param, 0, registry)
    yield running
    running.close()


def place_of(port: MetricsPort) -> tuple[str, int]:
    return str(port.server_address[0]), port.server_port


def read(port: MetricsPort) -> str:
    host, number = place_of(port)
    place = f"[{host}]" if ":" in host else host
    with urllib.request.urlopen(f"http://{place}:{number}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def test_it_answers(port: MetricsPort) -> None:
    assert "ssd_something 7.0" in read(port)


def test_a_client_that_breaks_off(port: MetricsPort, capfd: pytest.CaptureFixture[str]) -> None:
    client = socket.create_connection(place_of(port))
    client.sendall(b"GET /metrics HTTP/1.1\r\n")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # with a reset
    assert "ssd_something" in read(port)
    assert capfd.readouterr() == ("", "")


def test_a_client_that_says_nothing_is_left(port: MetricsPort) -> None:
    with socket.create_connection(place_of(port), timeout=20) as client:
        assert client.recv(100) == b""


def test_its_end() -> None:
    running = MetricsPort("127.0.0.1", 0, CollectorRegistry())
    place = place_of(running)
    running.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
