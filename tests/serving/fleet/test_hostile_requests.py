"""Requests that try to reach what changes a server, by every spelling; none gets there."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from serving.fleet.configuration import GatewaySettings, Server
from serving.fleet.gateway import Gateway
from serving.fleet.servers import parse_address
from serving.server.server import EmbeddedServer
from tests import certificates
from tests.serving.fleet.conftest import Recorder

SERVICE = "/inference.GRPCInferenceService"
WORDS = (
    "the gateway passes inference, health and metadata; what changes a server is asked of that "
    "server"
)


@dataclass(frozen=True)
class Door:
    """A gateway with TLS and without: gRPC to a real server, HTTP to a recorder."""

    ports: dict[str, int]
    trust: ssl.SSLContext
    ca: bytes
    recorder: Recorder

    def send(self, way: str, request: bytes) -> bytes:
        """The beginning of the answer, with its status."""
        with socket.create_connection(("127.0.0.1", self.ports[way]), timeout=30) as plain:
            if way == "plain":
                return exchange(plain, request)
            with self.trust.wrap_socket(plain, server_hostname="localhost") as encrypted:
                return exchange(encrypted, request)


def exchange(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    return connection.recv(65536)


@pytest.fixture(scope="module")
def door(
    server: EmbeddedServer, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    certificates.write(folder)
    servers = [Server(parse_address(server.grpc_url), recorder.address)]
    bare = GatewaySettings(port=0, request_seconds=2)
    tls = replace(bare, certificate=folder / "server.pem", key=folder / "server.key")
    with Gateway(bare, servers) as plain, Gateway(tls, servers) as encrypted:
        ports = {"plain": plain.settings.port, "TLS": encrypted.settings.port}
        trust = ssl.create_default_context(cafile=folder / "ca.pem")
        yield Door(ports, trust, (folder / "ca.pem").read_bytes(), recorder)


@pytest.mark.parametrize("way", ["plain", "TLS"])
def test_a_plain_question_arrives(door: Door, way: str) -> None:
    assert b" 200 " in door.send(way, written("GET /v2/models/ensemble"))
    assert door.recorder.asked.pop()[0] == "GET /v2/models/ensemble"


def written(line: str, *headers: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "host: a", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@pytest.mark.parametrize("way", ["plain", "TLS"])
@pytest.mark.parametrize(
    "line",
    [
        "POST /v2/repository/index",
        "POST //v2/repository/index",
        "POST /v2//repository///index",
        "POST /./v2/repository/index",
        "POST /v2/models/../repository/index",
        "POST /v2/%72epository/index",
        "POST /v2/models/%2e%2e/repository/index",
        "POST /v2/models/..%2frepository/index",
        "POST /v2/models/..%5crepository/index",
        "POST /v2/models/..;/repository/index",
        "POST /v2/health/ready/../../repository/index",
        "POST /V2/Repository/Index",
        "POST http://a/v2/repository/index",
        "POST http://127.0.0.1:8000/v2/repository/models/ensemble/load",
        "POST /v2/models/ensemble/trace/setting",
        "GET /v2/models/ensemble%2ftrace%2fsetting",
        "GET /v2/models/ensemble/infer/../trace/setting",
        "GET /v2/models/ensemble/trace/setting?x=/infer",
        "GET /v2/models/ensemble/trace/setting#/ready",
        "POST /v2/models/ensemble/infer\t/v2/logging",
        "POST /v2/systemsharedmemory/region/all/unregister",
        "POST /v2/cudasharedmemory/status",
        "POST /v2/logging",
        "POST /v2/models/ensemble/load",
        "DELETE /v2/models/ensemble",
        "PUT /v2/models/ensemble/ready",
        "CONNECT 127.0.0.1:8000",
        "TRACE /v2/models/ensemble",
        "GET /metrics",
        "GET /clusters",
        "POST /quitquitquit",
        "OPTIONS *",
    ],
)
def test_no_spelling_reaches_a_server(door: Door, way: str, line: str) -> None:
    answer = door.send(way, written(line, "admin-key: secret"))
    assert answer.split(b" ")[1] in {b"400", b"403", b"404", b"405", b"408"}
    assert door.recorder.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        ["x-http-method-override: POST", "x-http-method: POST", "x-method-override: POST"],
        ["x-original-url: /v2/repository/index", "x-rewrite-url: /v2/repository/index"],
        ["x-envoy-original-path: /v2/repository/index", "x-forwarded-prefix: /v2/repository"],
        ["x-envoy-retry-on: 5xx", "x-envoy-upstream-rq-timeout-ms: 1", "x-forwarded-host: b"],
        ["forwarded: for=10.0.0.1", "x-forwarded-for: 10.0.0.1, 127.0.0.1"],
    ],
)
def test_no_header_makes_another_request_of_it(door: Door, headers: list[str]) -> None:
    assert b" 403 " in door.send("plain", written("GET /v2/repository/index", *headers))
    assert door.recorder.asked == []
    assert b" 200 " in door.send("plain", written("GET /v2/models/ensemble", *headers))
    line, seen = door.recorder.asked.pop()
    assert line == "GET /v2/models/ensemble"
    assert not any(name.startswith("x-envoy-retry") for name in seen)


@pytest.mark.parametrize(
    "lengths",
    [
        ["content-length: 4", "transfer-encoding: chunked"],
        ["content-length: 4", "content-length: 50"],
        ["transfer-encoding: xchunked"],
        ["content-length: +4"],
        ["content_length: 4"],
    ],
)
def test_no_request_hides_in_another(door: Door, lengths: list[str]) -> None:
    hidden = b"0\r\n\r\n" + written("POST /v2/repository/index")
    answer = door.send("plain", written("POST /v2/models/ensemble/infer", *lengths) + hidden)
    assert answer.split(b" ")[1] in {b"400", b"501"}
    assert door.recorder.asked == []


@pytest.mark.parametrize("way", ["plain", "TLS"])
@pytest.mark.parametrize(
    "path",
    [
        f"{SERVICE}/RepositoryIndex",
        f"/{SERVICE}/RepositoryModelLoad",
        f"{SERVICE}//RepositoryModelUnload",
        f"{SERVICE}/ModelInfer/../RepositoryIndex",
        f"{SERVICE}/ModelInfer/RepositoryIndex",
        f"{SERVICE}/%52epositoryIndex",
        f"{SERVICE}/ModelInfer%2f..%2fRepositoryIndex",
        f"{SERVICE}/repositoryIndex",
        f"http://a{SERVICE}/RepositoryIndex",
        f"{SERVICE}/TraceSetting",
        f"{SERVICE}/LogSettings",
        f"{SERVICE}/SystemSharedMemoryRegister",
        f"{SERVICE}/CudaSharedMemoryStatus",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/v2/repository/index",
        "*",
    ],
)
def test_no_path_of_http2_reaches_a_server(
    door: Door, server: EmbeddedServer, way: str, path: str
) -> None:
    address = f"localhost:{door.ports[way]}"
    key = [("triton-grpc-protocol-admin-key", server.admin_key)]
    with channel_to(door, way, address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"", timeout=30, metadata=key)
    told = caught.value.code().name, caught.value.details()
    refused = ("PERMISSION_DENIED", WORDS), ("UNIMPLEMENTED", ""), ("INTERNAL", "")
    assert told in (*refused, ("UNAVAILABLE", "Stream removed (Socket closed)"))


def channel_to(door: Door, way: str, address: str) -> grpc.Channel:
    if way == "plain":
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(door.ca))
