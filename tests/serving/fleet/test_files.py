"""The files for an Envoy that somebody else starts, in one that we start: servers by a DNS name."""

from dataclasses import replace
from pathlib import Path

import pytest

from client import Detector
from serving.errors import ServingError
from serving.fleet.configuration import (
    BOOTSTRAP,
    ROUTES,
    Dns,
    GatewaySettings,
    render_bootstrap,
    render_routes,
)
from serving.fleet.envoy import EnvoyProcess, find_envoy, validate
from serving.fleet.files import FilesSettings, write_gateway_files
from serving.fleet.servers import parse_address
from serving.server.prerequisites import choose_ports
from serving.server.server import EmbeddedServer
from tests import certificates


def test_servers_are_found_by_a_name(server: EmbeddedServer, smear: Path, tmp_path: Path) -> None:
    ports = choose_ports({"--port": ("127.0.0.1", 0), "--metrics": ("127.0.0.1", 0)})
    settings = GatewaySettings(port=ports["--port"], gateway_metrics_port=ports["--metrics"])
    ours = parse_address(server.grpc_url), parse_address(server.http_url)
    name = Dns("localhost", *(address.port for address in ours))
    (tmp_path / BOOTSTRAP).write_text(render_bootstrap(settings, tmp_path, 1, name))
    (tmp_path / ROUTES).write_text(render_routes(settings))
    validate(find_envoy(), tmp_path / BOOTSTRAP)
    envoy = EnvoyProcess(find_envoy(), tmp_path)
    try:
        with Detector(f"127.0.0.1:{settings.port}", retries=20, timeout=60) as detector:
            assert detector.detect(smear).detections
    finally:
        envoy.stop()
    assert "eprecated" not in envoy.log.read_text()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServingError, match="cannot be written to: Not a directory"):
        write_gateway_files(FilesSettings(output=tmp_path / "file" / "folder"))


def test_keys_and_certificates_stand_in_the_files(tmp_path: Path) -> None:
    certificates.write(tmp_path)
    (tmp_path / "keys.txt").write_text("camera-1 0123456789abcdef\n")
    settings = FilesSettings(
        output=tmp_path / "gateway",
        folder=tmp_path / "gateway",
        private_folder=tmp_path,
        keys_file=tmp_path / "keys.txt",
        certificate=tmp_path / "server.pem",
        key=tmp_path / "server.key",
        client_ca=tmp_path / "ca.pem",
    )
    write_gateway_files(settings)
    validate(find_envoy(), settings.output / BOOTSTRAP)
    names = {"envoy.yaml", "routes.yaml", "certificate.yaml", "client_ca.yaml"}
    assert {path.name for path in settings.output.iterdir()} == names
    assert "0123456789abcdef" in (settings.output / ROUTES).read_text()


def test_values_that_make_no_sense_are_not_written(tmp_path: Path) -> None:
    settings = FilesSettings(output=tmp_path / "gateway", request_mb=0)
    with pytest.raises(ServingError, match="--request-mb must be from 1 to 1024, found 0"):
        write_gateway_files(settings)
    assert not settings.output.exists()


def test_traces_are_in_the_files_where_a_receiver_is_named(tmp_path: Path) -> None:
    settings = FilesSettings(output=tmp_path, folder=tmp_path, private_folder=tmp_path)
    write_gateway_files(settings)
    assert "tracing" not in (tmp_path / BOOTSTRAP).read_text()
    write_gateway_files(replace(settings, otlp_endpoint="http://collector:4318", trace_share=0.01))
    assert "http://collector:4318/v1/traces" in (tmp_path / BOOTSTRAP).read_text()
    validate(find_envoy(), tmp_path / BOOTSTRAP)
