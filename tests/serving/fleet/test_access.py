"""Who gets in through the gateway, and what others learn of it: keys, certificates, the log."""

import json
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from client import Detector, Security, ServerError, ServerUnavailable
from serving.errors import StartError
from serving.fleet.configuration import GatewaySettings, Server
from serving.fleet.gateway import Gateway
from serving.fleet.servers import parse_address
from serving.server.server import EmbeddedServer
from tests import certificates
from tests.conftest import wait_until
from tests.serving.fleet.conftest import Recorder
from tests.serving.fleet.guarded import OLD, Guarded, ask

NEW = "new-key-0123456789"
KEYS = f"camera-1 {OLD}\npage page-key-0123456789\n"
INSIDE = "/v2/models/ensemble"
NO_KEY = b'{"error":"no API key that is known here was sent as x-api-key"}\n'
SHUT = (ssl.SSLError, ConnectionResetError)
ADMIN = {"admin-key": "admin-secret", "triton-grpc-protocol-admin-key": "admin-secret"}


@pytest.fixture(scope="module")
def guarded(
    server: EmbeddedServer, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("access")
    certificates.write(folder)
    (folder / "keys.txt").write_text(KEYS)
    settings = GatewaySettings(
        port=0,
        keys_file=folder / "keys.txt",
        certificate=folder / "server.pem",
        key=folder / "server.key",
        client_ca=folder / "ca.pem",
        access_log=str(folder / "access.log"),
    )
    told: list[str] = []
    both = Server(parse_address(server.grpc_url), recorder.address)
    with Gateway(settings, [both], told.append) as gateway:
        yield Guarded(folder, gateway, recorder, told)


@pytest.fixture(scope="module")
def others(guarded: Guarded) -> dict[str, str]:
    """What another authority has signed: the contents by the file's name."""
    folder = guarded.folder / "others"
    folder.mkdir()
    certificates.write(folder)
    return {path.name: path.read_text() for path in folder.iterdir()}


# Keys.


def test_a_key_opens_it(guarded: Guarded, smear: Path) -> None:
    with Detector(f"grpcs://{guarded.gateway.url}", security=guarded.security()) as detector:
        assert detector.detect(smear).detections
    assert guarded.ask(INSIDE) == 200


@pytest.mark.parametrize("key", ["", "camera-1", OLD[:-1], f"{OLD},{OLD}", OLD.upper()])
def test_without_a_key_that_is_known_nothing_is_answered(
    guarded: Guarded, smear: Path, key: str
) -> None:
    security = guarded.security(api_key=key)
    url = f"grpcs://{guarded.gateway.url}"
    says = r"wants another key \(Security.api_key\): no API key that is known here"
    with Detector(url, security=security) as detector, pytest.raises(ServerError, match=says):
        detector.detect(smear)
    with guarded.connect() as connection:
        assert ask(connection, INSIDE, key) == (401, NO_KEY)


def test_health_is_told_to_all_and_nothing_else(guarded: Guarded) -> None:
    assert guarded.ask("/v2/health/live", key="") == 200
    assert guarded.ask("/v2/health/ready", key="") == 200
    assert guarded.ask("/v2", key="") == 401
    with grpc.secure_channel(guarded.gateway.url, guarded.security().credentials()) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=30).live
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=30).ready
        with pytest.raises(grpc.RpcError) as caught:
            stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("path", [INSIDE, "/v2/health/live"])
def test_servers_see_the_owners_name_which_nobody_forges_and_no_secret(
    guarded: Guarded, path: str
) -> None:
    guarded.ask(path, headers={**ADMIN, "x-client-name": "forged", "priority": "u=7"})
    line, headers = guarded.recorder.asked[-1]
    assert line == f"GET {path}"
    assert headers["priority"] == "u=7"
    assert headers.get("x-client-name") == ("camera-1" if path == INSIDE else None)
    assert not {*ADMIN, "x-api-key"} & {*headers}


def test_keys_are_rotated_on_open_connections_without_a_gap(guarded: Guarded) -> None:
    with guarded.connect() as connection:
        assert ask(connection, INSIDE, OLD)[0] == 200
        opened = connection.sock
        with guarded.exchanged(keys_txt=f"{KEYS}camera-1 {NEW}\n"):
            wait_until(lambda: ask(connection, INSIDE, NEW)[0] == 200)
            assert ask(connection, INSIDE, OLD)[0] == 200
            with guarded.exchanged(keys_txt=f"camera-1 {NEW}\n"):
                wait_until(lambda: ask(connection, INSIDE, OLD)[0] == 401)
                assert ask(connection, INSIDE, NEW)[0] == 200
        assert connection.sock is opened


@pytest.mark.parametrize(
    ("text", "says"), [("", "holds no key"), (f"{KEYS}camera-2 short\n", "line 3: expected a name")]
)
def test_keys_that_make_no_sense_are_told_and_change_nothing(
    guarded: Guarded, text: str, says: str
) -> None:
    with guarded.exchanged(keys_txt=text):
        guarded.wait_for(says)
        assert guarded.ask(INSIDE) == 200
    assert not any("short" in line for line in guarded.told)


# Certificates.


def shown(guarded: Guarded) -> str:
    """The certificate that a new connection sees, as PEM."""
    context = guarded.security().context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, port = guarded.gateway.url.split(":")
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as tls:
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on(
    guarded: Guarded, others: dict[str, str]
) -> None:
    assert shown(guarded) == (guarded.folder / "server.pem").read_text()
    with guarded.connect() as connection:
        assert ask(connection, INSIDE, OLD)[0] == 200
        opened = connection.sock
        with guarded.exchanged(server_pem=others["server.pem"], server_key=others["server.key"]):
            wait_until(lambda: shown(guarded) == others["server.pem"], seconds=30)
            assert ask(connection, INSIDE, OLD)[0] == 200
        assert connection.sock is opened


def test_a_pair_that_does_not_match_is_told_and_changes_nothing(
    guarded: Guarded, others: dict[str, str]
) -> None:
    before = shown(guarded)
    with guarded.exchanged(server_pem=others["server.pem"]):
        guarded.wait_for("the key does not belong to the certificate; what held before still holds")
        assert shown(guarded) == before
    with guarded.exchanged(server_pem=before[:200]):
        guarded.wait_for("one of them is damaged, or the key wants a password; what held before")
        assert shown(guarded) == before


def test_a_kind_of_key_that_envoy_does_not_take_changes_nothing(guarded: Guarded) -> None:
    before = shown(guarded)
    certificate, key = odd_pair(guarded.folder)
    with guarded.exchanged(server_pem=certificate.read_text(), server_key=key.read_text()):
        guarded.wait_for("Envoy refuses a change: Failed to load certificate chain")
        assert shown(guarded) == before


def test_a_kind_of_key_that_envoy_does_not_take_is_told_at_the_start(
    recorder: Recorder, tmp_path: Path
) -> None:
    certificate, key = odd_pair(tmp_path)
    settings = GatewaySettings(port=0, certificate=certificate, key=key)
    gateway = Gateway(settings, [Server(recorder.address, recorder.address)])
    with pytest.raises(StartError, match="Envoy refuses the gateway's configuration: Failed to"):
        gateway.start()
    assert gateway.envoy.exit_code() is not None


def odd_pair(folder: Path) -> tuple[Path, Path]:
    """A certificate that OpenSSL takes, and Envoy's BoringSSL does not."""
    certificate, key = folder / "odd.pem", folder / "odd.key"
    command = ["openssl", "req", "-x509", "-newkey", "ed448", "-nodes", "-subj", "/CN=odd"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_whose_clients_are_let_in_is_exchanged_too(
    guarded: Guarded, others: dict[str, str]
) -> None:
    theirs = replace(
        guarded.security(),
        certificate=guarded.folder / "others" / "client.pem",
        key=guarded.folder / "others" / "client.key",
    )
    with pytest.raises(SHUT):
        guarded.ask(INSIDE, security=theirs)
    ours = replace(guarded.security(), ca=guarded.folder / "trusted.pem")
    (guarded.folder / "trusted.pem").write_text((guarded.folder / "ca.pem").read_text())
    theirs = replace(theirs, ca=ours.ca)
    with guarded.exchanged(ca_pem=others["ca.pem"]):
        wait_until(lambda: guarded.ask(INSIDE, security=theirs) == 200, retry=OSError)
        with pytest.raises(SHUT):
            guarded.ask(INSIDE, security=ours)


def test_without_a_certificate_there_is_no_connection(guarded: Guarded, smear: Path) -> None:
    security = Security(ca=guarded.folder / "ca.pem", api_key=OLD)
    with (
        Detector(f"grpcs://{guarded.gateway.url}", security=security, retries=0) as detector,
        pytest.raises(ServerUnavailable),
    ):
        detector.detect(smear)
    with pytest.raises(SHUT):
        guarded.ask(INSIDE, security=security)


def test_the_days_that_it_is_still_valid_are_among_the_metrics(guarded: Guarded) -> None:
    with urllib.request.urlopen(f"http://{guarded.gateway.metrics_url}/metrics") as answer:
        found = answer.read().decode().splitlines()
    assert "envoy_server_days_until_first_cert_expiring{} 0" in found  # an hour


# The log.

FIELDS = {
    "time", "client", "certificate", "peer", "protocol", "method", "path", "priority", "status",
    "grpc_status", "flags", "details", "bytes_received", "bytes_sent", "milliseconds", "server",
    "request_id",
}  # fmt: skip


def read_log(guarded: Guarded) -> list[dict[str, object]]:
    return [json.loads(line) for line in (guarded.folder / "access.log").read_text().splitlines()]


def test_the_log_tells_who_asked_what_and_no_secret(guarded: Guarded, smear: Path) -> None:
    path = f"{INSIDE}/ready"
    hostile = {"x-client-name": "forged", "priority": 'u=7"}\t{"status": 200}'}
    guarded.ask(f"{path}?token=query-secret", headers=ADMIN | hostile)
    with Detector(f"grpcs://{guarded.gateway.url}", security=guarded.security()) as detector:
        detector.detect(smear)
    guarded.ask(INSIDE, key="guessed-secret-0123")
    lines = wait_until(
        lambda: found if (found := read_log(guarded))[-1]["details"] == "unknown_api_key" else []
    )
    rest = next(line for line in lines if line["path"] == path)
    assert {*rest} == FIELDS
    assert rest["client"] == "camera-1"
    assert rest["certificate"] == "CN=client"
    assert rest["priority"] == hostile["priority"][:32]
    assert (rest["protocol"], rest["status"], rest["method"]) == ("HTTP/1.1", 200, "GET")
    assert rest["server"] == str(guarded.recorder.address)
    call = next(line for line in reversed(lines) if str(line["path"]).endswith("/ModelInfer"))
    assert (call["protocol"], call["grpc_status"], call["client"]) == ("HTTP/2", "OK", "camera-1")
    assert int(str(call["bytes_received"])) > smear.stat().st_size
    text = (guarded.folder / "access.log").read_text()
    for secret in (OLD, "query-secret", "admin-secret", "guessed-secret", "forged"):
        assert secret not in text


def test_a_log_that_was_moved_away_is_begun_anew(guarded: Guarded) -> None:
    log = guarded.folder / "access.log"
    log.rename(guarded.folder / "access.log.1")
    wait_until(log.exists)
    guarded.ask(INSIDE)
    wait_until(lambda: log.stat().st_size)
    assert log.stat().st_mode & 0o077 == 0
