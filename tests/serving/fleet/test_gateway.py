"""The gateway, from outside: what it passes on, what it refuses, and whom it asks."""

import contextlib
import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpcore2
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from client import Detector
from serving.fleet.fleet import Fleet
from tests.conftest import wait_until


@pytest.fixture
def stub(fleet: Fleet):
    with stub_of(fleet.url) as made:
        yield made


@contextlib.contextmanager
def stub_of(url: str) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(url, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(image: bytes, model: str = "ensemble") -> service_pb2.ModelInferRequest:
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.raw_input_contents.append(len(image).to_bytes(4, "little") + image)
    return message


def refusal(call, message, **options) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30, **options)
    return caught.value


def test_one_address_takes_grpc_and_rest(fleet: Fleet, smear: Path) -> None:
    with Detector(fleet.url) as by_grpc, Detector(f"http://{fleet.url}") as by_rest:
        assert by_grpc.detect(smear) == by_rest.detect(smear)


def test_each_request_of_a_connection_finds_the_less_busy_server(fleet: Fleet, smear: Path) -> None:
    before = [answered(server) for server in fleet.servers]
    with Detector(fleet.url) as detector:
        list(detector.detect_many([smear] * 40, concurrency=8))
    gained = [answered(server) - n for server, n in zip(fleet.servers, before, strict=True)]
    assert sum(gained) >= 40
    assert min(gained) > 10


def answered(server) -> int:
    with server.control() as control:
        return control.answered("ensemble", "")


def test_what_is_too_much_is_refused_with_a_hint(stub, smear: Path) -> None:
    message: Any = request(smear.read_bytes())
    found: list[Any] = []

    def ask() -> None:
        try:
            stub.ModelInfer(message, timeout=60)
            found.append("OK")
        except grpc.RpcError as error:
            hints = dict(error.trailing_metadata())
            hint = hints.get("grpc-retry-pushback-ms"), hints.get("retry-after")
            found.append((error.code().name, error.details(), *hint))

    threads = [threading.Thread(target=ask) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = Counter(found)
    words = "too many requests are under way: try again a little later"
    assert set(counted) == {"OK", ("UNAVAILABLE", words, "250", "1")}
    assert counted["OK"] >= 32


def test_a_request_that_is_too_large(fleet: Fleet, stub) -> None:
    error = refusal(stub.ModelInfer, request(bytes(65 * 2**20)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "the request is larger than 64 MiB"
    with httpcore2.ConnectionPool() as pool:
        url = f"http://{fleet.url}/v2/models/ensemble/infer"
        answer = pool.request("POST", url, content=bytes(65 * 2**20))
    assert answer.status == 413
    assert answer.content == b'{"error":"the request is larger than 64 MiB"}\n'


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
        ("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name="ensemble")),
        ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()),
        ("TraceSetting", service_pb2.TraceSettingRequest()),
        ("LogSettings", service_pb2.LogSettingsRequest()),
    ],
)
def test_nobody_changes_a_server_through_it(fleet: Fleet, stub, call: str, message) -> None:
    key = [("triton-grpc-protocol-admin-key", fleet.admin_key)]
    error = refusal(getattr(stub, call), message, metadata=key)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "asked of that server" in error.details()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/ensemble/unload"),
        ("GET", "/v2/models/../repository/index"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/models/ensemble/trace/setting"),
        ("GET", "/v2/logging"),
        ("GET", "/metrics"),
        ("GET", "/clusters"),
    ],
)
def test_nobody_changes_a_server_by_rest(fleet: Fleet, method: str, path: str) -> None:
    with httpcore2.ConnectionPool() as pool:
        headers = [(b"admin-key", fleet.admin_key.encode())]
        assert pool.request(method, f"http://{fleet.url}{path}", headers=headers).status == 403


def test_a_stream_is_refused_in_words(stub, smear: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ModelStreamInfer(iter([request(smear.read_bytes())]), timeout=30))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "use ModelInfer" in caught.value.details()


def test_a_frozen_server_is_left_out_and_nobody_notices(fleet: Fleet, smear: Path) -> None:
    """Readiness would stay green; a real inference does not come back."""
    gateway, frozen = fleet.gateway, fleet.servers[0]
    with Detector(fleet.url, retries=0, timeout=30) as detector:
        os.kill(frozen.process.pid, signal.SIGSTOP)
        try:
            results = list(detector.detect_many([smear] * 30, concurrency=4))
            wait_until(lambda: frozen.grpc_url not in gateway.healthy())
        finally:
            os.kill(frozen.process.pid, signal.SIGCONT)
        assert len(results) == 30
    wait_until(lambda: len(gateway.healthy()) == 2)


def test_a_killed_server_is_left_out_and_nobody_notices(fleet: Fleet, smear: Path) -> None:
    """It refuses connections at once, so it is the one with the fewest requests under way."""
    killed = fleet.servers[1]
    photos = iter(lambda: smear, None)
    with Detector(fleet.url, retries=0, timeout=30) as detector:
        answers = detector.detect_many(photos, concurrency=12)
        for _ in range(20):
            next(answers)
        os.kill(killed.process.pid, signal.SIGKILL)
        assert sum(1 for _ in itertools.islice(answers, 150)) == 150
    wait_until(lambda: len(fleet.gateway.healthy()) == 2)


def test_envoy_that_was_killed_is_started_again(fleet: Fleet, smear: Path) -> None:
    before = fleet.gateway.envoy.pid
    os.kill(before, signal.SIGKILL)
    with Detector(fleet.url, retries=20, timeout=60) as detector:
        assert detector.detect(smear).detections
    assert fleet.gateway.envoy.pid != before


def test_servers_join_and_leave_without_a_restart(fleet: Fleet, smear: Path) -> None:
    gateway, (first, second) = fleet.gateway, fleet.addresses()
    envoy = gateway.envoy.pid
    try:
        gateway.set_servers([first])
        wait_until(lambda: gateway.healthy() == {str(first.grpc)})
        gateway.set_servers([second])
        wait_until(lambda: gateway.healthy() == {str(second.grpc)})
        with Detector(fleet.url, timeout=30) as detector:  # Envoy's threads learn it one by one
            assert detector.detect(smear).detections
    finally:
        gateway.set_servers([first, second])
    wait_until(lambda: len(gateway.healthy()) == 2)
    assert gateway.envoy.pid == envoy
