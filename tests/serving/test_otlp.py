import re

import pytest

from serving.errors import PrerequisiteError
from serving.fleet.fleet import Fleet, FleetSettings
from serving.otlp import make_trace_options, parse_receiver
from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import PROJECT


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:4318",
        "grpc://127.0.0.1:4317",
        "https://collector.example.org",
        "http://user:secret@127.0.0.1:4318",
        "http://127.0.0.1:4318,http://127.0.0.1:4319",
        "http://127.0.0.1:4318/?key=1",
        "http://127.0.0.1:99999",
    ],
)
def test_what_is_no_receiver(url: str) -> None:
    said = (
        f"--otlp-endpoint must be the URL of one receiver of OTLP by HTTP.*{re.escape(repr(url))}"
    )
    with pytest.raises(PrerequisiteError, match=said):
        parse_receiver(url)


@pytest.mark.parametrize(
    ("url", "sent_to"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://collector/otel/", "http://collector:80/otel/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_spans_are_sent_below_the_address(url: str, sent_to: str) -> None:
    assert f"--trace-config=opentelemetry,url={sent_to}" in make_trace_options(url, "a:1")


def test_a_server_with_a_wrong_receiver_is_not_started() -> None:
    settings = ServerSettings(PROJECT / "model_repository", otlp_endpoint="127.0.0.1:4317")
    with pytest.raises(PrerequisiteError, match=r"found '127\.0\.0\.1:4317'"):
        EmbeddedServer(settings).launch()


def test_the_servers_of_a_fleet_send_theirs_too() -> None:
    fleet = Fleet(FleetSettings(otlp_endpoint="http://127.0.0.1:4318"))
    assert {server.settings.otlp_endpoint for server in fleet.servers} == {"http://127.0.0.1:4318"}
