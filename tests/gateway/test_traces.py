"""One trace, from the client through the gateway to the models' steps, at a genuine collector."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from client.runtime import Threads, finish
from client.transports.addresses import parse_addresses
from client.transports.base import Request
from client.transports.security import Security
from serving.fleet.configuration import GatewaySettings, Server
from serving.fleet.gateway import Gateway
from serving.fleet.servers import parse_address
from serving.server.server import EmbeddedServer, ServerSettings
from tests.collector import Collector, Span, collecting
from tests.conftest import PROJECT, wait_until

SCHEMES = ("", "http://")
STEPS = ("preprocess", "ssd", "postprocess")
INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collecting(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="module")
def server(collector: Collector) -> Iterator[EmbeddedServer]:
    """A server that is not probed meanwhile: probes are traced, too."""
    repository = PROJECT / "model_repository"
    settings = ServerSettings(repository, otlp_endpoint=collector.url, probe_seconds=3600)
    with EmbeddedServer(settings) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(collector: Collector, server: EmbeddedServer) -> Iterator[Gateway]:
    settings = GatewaySettings(port=0, otlp_endpoint=collector.url)
    with Gateway(settings, [address_of(server)]) as running:
        yield running


def address_of(server: EmbeddedServer) -> Server:
    return Server(parse_address(server.grpc_url), parse_address(server.http_url))


def detect(url: str, photo: Path, collector: Collector, **variables: str) -> str:
    """Let the command detect, as its page says. Returns the name under which it sends spans."""
    name = f"client-{uuid.uuid4().hex}"
    environment = os.environ | {
        "OTEL_SERVICE_NAME": name,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        **variables,
    }
    command = [str(INSTRUMENT), sys.executable, "-m", "client", "detect", str(photo), "--url", url]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return name


def trace_of(collector: Collector, service: str, count: int) -> list[Span]:
    """All spans of the one trace that a service began, when there are so many."""
    wait_until(lambda: any(span.service == service for span in collector.sink.spans))
    [trace] = {span.trace for span in collector.sink.spans if span.service == service}
    return collector.wait_for(trace, count)


def children(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent == parent.id]


def only_child(spans: list[Span], parent: Span) -> Span:
    [child] = children(spans, parent)
    return child


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_trace_from_the_client_to_the_steps(
    gateway: Gateway, server: EmbeddedServer, collector: Collector, scheme: str, smear: Path
) -> None:
    spans = trace_of(collector, detect(scheme + gateway.url, smear, collector), 12)
    [image] = [span for span in spans if span.parent == ""]
    sent = only_child(spans, image)
    taken = only_child(spans, sent)
    asked = only_child(spans, taken)
    answered = only_child(spans, asked)
    ensemble = only_child(spans, answered)
    assert [(span.service.partition("-")[0], span.kind) for span in (image, sent)] == [
        ("client", "internal"),
        ("client", "client"),
    ]
    assert [(span.service, span.kind) for span in (taken, asked)] == [
        ("ssd-gateway", "server"),
        ("ssd-gateway", "client"),
    ]
    assert (answered.service, answered.instance) == ("ssd-server", server.grpc_url)
    assert (answered.name, answered.kind, ensemble.name) == ("InferRequest", "server", "ensemble")
    assert {span.name for span in children(spans, ensemble)} == set(STEPS)
    for step in children(spans, ensemble):
        assert only_child(spans, step).name == "compute"
    assert len(spans) == 12


def test_a_further_try_is_told_beside_the_one_that_failed(
    gateway: Gateway, collector: Collector, smear: Path
) -> None:
    spans = trace_of(collector, detect(f"127.0.0.1:1,{gateway.url}", smear, collector), 13)
    [image] = [span for span in spans if span.parent == ""]
    failed, sent = children(spans, image)
    assert failed.failed
    assert failed.attributes["error.type"] == "UNAVAILABLE"
    assert children(spans, failed) == []
    assert not sent.failed
    assert only_child(spans, sent).service == "ssd-gateway"


# What is not to be traced: a request that is, sent after it, shows that nothing is still to come.


UNTRACED: tuple[dict[str, str], ...] = (
    {},
    {"traceparent": "00-{trace}-00f067aa0ba902b7-00"},
    {"traceparent": "00-{trace}-00f067aa0ba902b7-02"},  # random, but not sampled
    {"traceparent": "not one of these"},
    {"x-envoy-force-trace": "true"},
    {"x-client-trace-id": "{trace}"},
    {"x-request-id": "00000000-0000-9000-8000-000000000000"},  # Envoy's mark for "sampled"
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_not_traced_by_its_client_is_traced_nowhere(
    gateway: Gateway, collector: Collector, scheme: str, smear: Path
) -> None:
    before = len(collector.sink.spans)
    for headers in UNTRACED:
        send(scheme + gateway.url, smear, headers)
    traced = send(scheme + gateway.url, smear, SAMPLED)
    collector.wait_for(traced, 10)
    assert {span.trace for span in collector.sink.spans[before:]} == {traced}


def test_a_share_is_drawn_by_the_gateway_whatever_clients_say(
    gateway: Gateway, server: EmbeddedServer, collector: Collector, smear: Path
) -> None:
    with standing_beside(gateway, server, trace_share=0.0) as nothing:
        unwanted = send(nothing, smear, SAMPLED)
    with standing_beside(gateway, server, trace_share=1.0) as everything:
        before = len(collector.sink.spans)
        taken_off = send(everything, smear, SAMPLED)
        wait_until(lambda: len(collector.sink.spans) == before + 10)
    [trace] = {span.trace for span in collector.sink.spans[before:]}
    assert trace not in (unwanted, taken_off)
    assert collector.spans(unwanted) == collector.spans(taken_off) == []


def test_no_key_and_no_query_is_told(
    gateway: Gateway, server: EmbeddedServer, collector: Collector, smear: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("camera the-secret-key-0123\n")
    with standing_beside(gateway, server, keys_file=keys) as url:
        headers = SAMPLED | {"x-api-key": "the-secret-key-0123", "authorization": "secret words"}
        traced = send(url, smear, headers)
        refused = uuid.uuid4().hex
        with httpcore2.ConnectionPool() as pool:
            path = f"http://{url}/v2/models/ensemble/infer?key=the-secret-query"
            traceparent = SAMPLED["traceparent"].format(trace=refused).encode()
            sent = [(b"traceparent", traceparent), (b"x-api-key", b"another-secret-key")]
            assert pool.request("POST", path, headers=sent).status == 401
        told = str([*collector.wait_for(traced, 10), *collector.wait_for(refused, 1)])
    assert "POST /v2/models/ensemble/infer" in told
    assert "secret" not in told


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_collector_that_hangs_disturbs_nobody(
    gateway: Gateway, collector: Collector, scheme: str, smear: Path
) -> None:
    """It takes connections and answers none; more spans come than Triton's queue holds."""
    os.kill(collector.process.pid, signal.SIGSTOP)
    try:
        for _ in range(300):
            send(scheme + gateway.url, smear, SAMPLED)
    finally:
        os.kill(collector.process.pid, signal.SIGCONT)
    traces: list[str] = []

    def comes_again() -> bool:
        traces.append(send(scheme + gateway.url, smear, SAMPLED))
        return any(len(collector.spans(trace)) == 10 for trace in traces)

    wait_until(comes_again)


@contextmanager
def standing_beside(gateway: Gateway, server: EmbeddedServer, **settings: Any) -> Iterator[str]:
    """Another gateway before the same server. Gives its host and port."""
    changed = replace(gateway.settings, port=0, gateway_metrics_port=0, **settings)
    with Gateway(changed, [address_of(server)]) as other:
        yield other.url


SAMPLED = {"traceparent": "00-{trace}-00f067aa0ba902b7-01"}


def send(url: str, photo: Path, headers: Mapping[str, str]) -> str:
    """Let a photo be detected. Returns the id in the headers' {trace}."""
    trace = uuid.uuid4().hex
    sent = {name: value.format(trace=trace) for name, value in headers.items()}
    [address] = parse_addresses(url)
    transport = Threads().connect(address, Security(), {})
    try:
        finish(transport.infer(Request("ensemble", photo.read_bytes(), {}, sent), 60))
    finally:
        finish(transport.close())
    return trace
