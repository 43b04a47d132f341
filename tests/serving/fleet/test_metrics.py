"""What the gateway counts of its clients, as the rules in deploy/monitoring read it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpcore2
import pytest

from client import Detector, DetectorError
from serving.fleet.fleet import Fleet
from serving.fleet.gateway import Gateway
from tests.conftest import Samples, read_metrics, wait_until
from tests.serving.fleet.test_overload import PLACES, collect, send

# The parser calls each counter so.
STATUSES = "envoy_cluster_grpc_ModelInfer_total"
OVERFLOW = "envoy_cluster_upstream_rq_active_overflow_total"
REST = "envoy_vhost_route_upstream_rq_xx_total"


def read_gateway(gateway: Gateway) -> Samples:
    """All samples by name and labels."""
    return read_metrics(f"http://{gateway.metrics_url}/metrics")


def total(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels; 0 without any."""
    found = read_gateway(gateway).items()
    return sum(v for (n, their), v in found if n == name and labels.items() <= set(their))


def sum_of(url: str, name: str) -> float:
    return sum(value for (found, _), value in read_metrics(url).items() if found == name)


def grows(gateway: Gateway, name: str, act: Callable[[], Any], **labels: str) -> float:
    before = total(gateway, name, **labels)
    act()
    return wait_until(lambda: total(gateway, name, **labels) - before)


def send_junk(url: str) -> None:
    with Detector(url, retries=0) as detector, pytest.raises(DetectorError):
        detector.detect(b"no photo")


def test_an_answer_by_grpc_is_counted_by_the_status_in_its_trailers(
    fleet: Fleet, smear: Path
) -> None:
    def ask() -> None:
        with Detector(fleet.url) as detector:
            list(detector.detect_many([smear] * 3))

    assert grows(fleet.gateway, STATUSES, ask, grpc_status="0") == 3
    junk = grows(fleet.gateway, STATUSES, lambda: send_junk(fleet.url), grpc_status="3")
    assert junk == 1


def test_an_answer_by_rest_is_counted_by_its_status(fleet: Fleet) -> None:
    labels = {"envoy_route": "rest", "envoy_response_code_class": "4"}
    assert grows(fleet.gateway, REST, lambda: send_junk(f"http://{fleet.url}"), **labels) == 1


def test_who_is_refused_is_counted_as_such_and_as_unavailable(fleet: Fleet) -> None:
    before = total(fleet.gateway, STATUSES, grpc_status="14")
    refused = collect(send(fleet.url, 5 * PLACES), 5 * PLACES)["UNAVAILABLE"]
    assert refused > 0
    assert total(fleet.gateway, STATUSES, grpc_status="14") - before == refused
    assert total(fleet.gateway, OVERFLOW, envoy_cluster_name="triton_grpc") >= refused


def test_its_checks_are_nobodys_photos(fleet: Fleet) -> None:
    """The servers' models measure what users send."""
    checks = "envoy_cluster_health_check_success_total"
    before = total(fleet.gateway, checks)
    # What other tests sent is handed over every five seconds.
    wait_until(lambda: total(fleet.gateway, checks) > before + 40)
    url = f"http://{fleet.servers[0].metrics_url}/metrics"
    photos = sum_of(url, "ssd_image_bytes_count_total")
    wait_until(lambda: total(fleet.gateway, checks) > before + 80)
    assert sum_of(url, "ssd_image_bytes_count_total") == photos


def test_a_client_cannot_make_it_count_what_it_likes(fleet: Fleet) -> None:
    """A name of each method that somebody makes up would fill the gateway's memory."""
    names = {name for name, _ in read_gateway(fleet.gateway)}
    with grpc.insecure_channel(fleet.url) as channel:
        for number in range(20):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/ModelMadeUp{number}")
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=10)
    with httpcore2.ConnectionPool() as pool:
        for number in range(20):
            pool.request("POST", f"http://{fleet.url}/v2/models/made-up-{number}/infer")
    after = read_gateway(fleet.gateway)
    assert not any("adeUp" in name or "made-up" in str(labels) for name, labels in after)
    assert len({name for name, _ in after} - names) < 10
