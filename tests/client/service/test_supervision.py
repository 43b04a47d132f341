"""What `serving up` knows, read from its own metrics and from what others call metrics."""

import re
import socket
import time

import pytest

from client.errors import InvalidParameter, ServerError, ServerUnavailable
from client.service.supervision import parse_supervision, read_metrics
from serving.monitoring.service_metrics import ServiceMetrics

TEXT = """
process_start_time_seconds 1795762000
ssd_probe_success{{ensemble="ensemble"}} {success}
ssd_last_probe_timestamp_seconds {now}
ssd_live_version{{ensemble="ensemble",model="ssd"}} 2
ssd_live_since_timestamp_seconds{{ensemble="ensemble",model="ssd"}} 1795763000
ssd_store_reachable {store}
ssd_restarts_total{{part="server",model="",reason="signal"}} {count}
ssd_restarts_total{{part="stub",model="ssd",reason="died"}} {count}
ssd_restarts_total{{part="stub",model="ssd",reason="hung"}} {count}
"""


def test_before_the_first_probe() -> None:
    told = parse_supervision(ServiceMetrics("models").text())
    assert (told.live, told.failing, told.probed, told.restarts) == ({}, [], 0, {})
    assert str(told).startswith("no probe yet; restarts since 20")
    assert str(told).endswith(" UTC: none")


def test_a_server_that_works() -> None:
    told = parse_supervision(TEXT.format(now=time.time(), success=1, store=1, count=0))
    assert told.live == {"ensemble": (2, 1795763000.0)}
    assert told.trouble() == ""
    assert re.fullmatch(
        r"ensemble version 2 live since 2026-11-27 07:03 UTC; last probe \d\d:\d\d:\d\d UTC; "
        "restarts since 2026-11-27 06:46 UTC: none",
        str(told),
    )


def test_a_server_in_trouble() -> None:
    told = parse_supervision(TEXT.format(now=time.time() - 61, success=0, store=0, count=2))
    assert told.restarts == {"tritonserver": 2, "ssd": 4}
    assert str(told).endswith(" UTC: tritonserver 2, ssd 4")
    assert told.trouble().startswith(
        "the probe of ensemble fails, the model repository is away, there was no probe since 2"
    )


@pytest.mark.parametrize("text", ["", "<html>hello</html>", "# HELP nv_x y\nnv_x 1\n", "{}"])
def test_what_others_answer(text: str) -> None:
    with pytest.raises(ServerError, match="not the metrics of `serving up`"):
        parse_supervision(text)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8003", "file:///etc/passwd"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidParameter, match="must be like http://127"):
        read_metrics(url)


def test_nobody_answers(nowhere: str) -> None:
    with pytest.raises(ServerUnavailable, match=r"no metrics can be read there \(.*refused"):
        read_metrics(f"http://{nowhere}/metrics")


def test_somebody_who_never_answers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ServerUnavailable, match="timed out"),
    ):
        read_metrics(f"http://127.0.0.1:{silent.getsockname()[1]}/metrics", 0.2)


def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    monkeypatch.setenv("http_proxy", f"http://{nowhere}")
    metrics = ServiceMetrics("models")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    metrics.open_port("127.0.0.1", port)
    assert "ssd_restarts_total" in read_metrics(f"http://127.0.0.1:{port}/metrics")
    metrics.close_port()
