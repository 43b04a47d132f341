import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from client.__main__ import main
from client.detection import Box, Detection
from serving.server import supervisor
from serving.server.process import Stub
from serving.server.server import EmbeddedServer, ServerSettings
from tests import certificates
from tests.client.conftest import answer_tensors, serve
from tests.client.telling import STEPS, Telling
from tests.conftest import PROJECT, QUICK, wait_until

Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """doctor(url, *arguments): the exit code, and the findings by their subjects."""

    def examine(url: str, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        code = main(["doctor", url, "--json", "--requests", "3", *arguments])
        out, err = capsys.readouterr()
        assert err == ""
        document = json.loads(out)
        assert document["url"] == url
        assert document["fine"] == (code == 0)
        return code, {finding["subject"]: finding for finding in document["findings"]}

    return examine


def wrong(findings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The one thing that is wrong."""
    (found,) = (finding for finding in findings.values() if finding["mark"] == "wrong")
    assert found["remedy"]
    return found


@pytest.fixture
def telling() -> Iterator[Telling]:
    service = Telling()
    cell = Detection("RBC", 0, 0.75, Box(1, 2, 3, 4))
    service.answer = lambda *_: answer_tensors([cell])
    running = serve(service)
    yield service
    running.stop(None).wait()


# A real server.


@pytest.mark.parametrize("scheme", ["", "grpc://", "http://"])
def test_a_sound_server(scheme: str, server: EmbeddedServer, doctor: Doctor) -> None:
    url = scheme + (server.http_url if scheme == "http://" else server.grpc_url)
    code, findings = doctor(url)
    assert code == 0
    assert list(findings) == [
        "connection", "server", "versions", "inference", "labels", "latency", "clock"
    ]  # fmt: skip
    marks = {subject: finding["mark"] for subject, finding in findings.items()}
    assert marks.pop("latency") in ("ok", "warning")  # by what else this machine does just now
    assert set(marks.values()) == {"ok"}
    assert findings["versions"]["text"] == "ensemble: preprocess 1, ssd 2, postprocess 1"
    assert findings["labels"]["text"] == "RBC, WBC, Platelets"
    facts = findings["latency"]["facts"]
    assert 0 < facts["median_ms"] <= facts["p99_ms"]
    assert [step["model"] for step in facts["steps"]] == list(STEPS)


def test_the_list_is_readable_without_colours(server: EmbeddedServer) -> None:
    command = [sys.executable, "-m", "client", "doctor", server.grpc_url, "--requests", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"ok       connection  gRPC at {server.grpc_url}"
    assert lines[-1] == "wrong: nothing"
    assert done.stdout.isascii()
    assert max(map(len, lines)) <= 100


def test_the_http_port_for_grpc(server: EmbeddedServer, doctor: Doctor) -> None:
    code, findings = doctor(server.http_url)
    assert code == 1
    assert list(findings) == ["connection"]
    found = wrong(findings)
    assert "is Triton's HTTP port" in found["text"]
    assert f"Give it as http://{server.http_url}" in found["remedy"]


def test_the_grpc_port_for_http(server: EmbeddedServer, doctor: Doctor) -> None:
    code, findings = doctor(f"http://{server.grpc_url}")
    assert code == 1
    found = wrong(findings)
    assert "is a gRPC port" in found["text"]
    assert f"Give it as grpc://{server.grpc_url}" in found["remedy"]


@pytest.mark.parametrize("scheme", ["grpc://", "http://"])
def test_the_metrics_port(scheme: str, server: EmbeddedServer, doctor: Doctor) -> None:
    code, findings = doctor(scheme + server.metrics_url)
    assert code == 1
    assert "is the port of Triton's metrics" in wrong(findings)["text"]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_encryption_where_there_is_none(
    scheme: str, server: EmbeddedServer, doctor: Doctor
) -> None:
    url = server.grpc_url if scheme == "grpc" else server.http_url
    code, findings = doctor(f"{scheme}s://{url}")
    assert code == 1
    found = wrong(findings)
    assert "is not encrypted" in found["text"]
    assert f"{scheme}://{url}" in found["remedy"]


def test_another_name_of_the_ensemble(server: EmbeddedServer, doctor: Doctor) -> None:
    code, findings = doctor(server.grpc_url, "--model", "potholes")
    assert code == 1
    assert wrong(findings)["text"] == "the server has no model potholes"
    assert wrong(findings)["remedy"] == "Name another one with --model: ensemble."


def test_a_step_instead_of_the_ensemble(server: EmbeddedServer, doctor: Doctor) -> None:
    code, findings = doctor(server.grpc_url, "--model", "ssd")
    assert code == 1
    text = "the model ssd takes images (UINT8) and gives boxes (FP32), scores (FP32): "
    assert wrong(findings)["text"].startswith(text)
    assert wrong(findings)["remedy"] == "Name another one with --model: ensemble."


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that may be broken: its supervisor does not look, so nobody mends it."""
    repository = tmp_path_factory.mktemp("own") / "models"
    shutil.copytree(PROJECT / "model_repository", repository)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "TICK", 600.0)
        settings = ServerSettings(repository, arguments=QUICK, supervisor_port=0)
        with EmbeddedServer(settings) as own:
            yield own


@pytest.mark.slow
def test_what_serving_up_knows(own: EmbeddedServer, doctor: Doctor) -> None:
    code, findings = doctor(own.grpc_url, f"--metrics-url=http://{own.supervisor_url}/metrics")
    assert code == 0
    assert findings["supervision"]["mark"] == "ok"
    assert findings["supervision"]["text"].startswith("ensemble version 2 live since 20")
    assert findings["supervision"]["facts"]["live"]["ensemble"][0] == 2
    assert findings["supervision"]["facts"]["restarts"] == {}
    assert "supervision" not in doctor(own.grpc_url)[1]


@pytest.mark.slow
def test_other_metrics_than_those_of_serving_up(
    own: EmbeddedServer, nowhere: str, doctor: Doctor
) -> None:
    for url, said in ((own.metrics_url, "these are not the metrics"), (nowhere, "refused")):
        code, findings = doctor(own.grpc_url, f"--metrics-url=http://{url}/metrics")
        assert code == 0
        assert findings["supervision"]["mark"] == "warning"
        assert said in findings["supervision"]["text"]


@pytest.mark.slow
def test_a_step_that_is_not_loaded(own: EmbeddedServer, doctor: Doctor) -> None:
    with own.control() as control:
        control.unload("postprocess")
        for url in (own.grpc_url, f"http://{own.http_url}"):
            code, findings = doctor(url)
            assert code == 1
            assert wrong(findings)["text"] == "no version of the model ensemble is ready"
        control.load("postprocess")


@pytest.mark.slow
def test_a_dead_stub_behind_a_green_health(own: EmbeddedServer, doctor: Doctor) -> None:
    assert doctor(own.grpc_url)[0] == 0

    def of_postprocess() -> list[Stub]:
        return [stub for stub in own.process.stubs() if stub.model(STEPS) == "postprocess"]

    wait_until(lambda: len(of_postprocess()) == 1)  # an unloaded one may still be ending
    os.kill(of_postprocess()[0].pid, signal.SIGKILL)
    code, findings = doctor(own.grpc_url)
    assert code == 1
    assert findings["server"]["mark"] == "ok"
    assert wrong(findings)["subject"] == "inference"
    assert "says that it is ready, but the process of a Python model" in wrong(findings)["text"]


# No server.


@pytest.mark.parametrize("scheme", ["grpc", "http", "grpcs", "https"])
def test_nothing_listens(scheme: str, nowhere: str, doctor: Doctor) -> None:
    code, findings = doctor(f"{scheme}://{nowhere}", "--timeout", "2")
    assert code == 1
    assert wrong(findings)["text"] == f"nothing listens at {scheme}://{nowhere}"
    assert "python -m serving up" in wrong(findings)["remedy"]


def test_a_name_that_nobody_has(doctor: Doctor) -> None:
    code, findings = doctor("no-such-host.invalid:8001", "--timeout", "2")
    assert code == 1
    assert wrong(findings)["text"] == "no machine has the name no-such-host.invalid"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_listener_that_hangs(scheme: str, doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        code, findings = doctor(f"{scheme}://127.0.0.1:{hung.getsockname()[1]}", "--timeout", "0.5")
    assert code == 1
    assert "takes connections" in wrong(findings)["text"]
    assert "says nothing" in wrong(findings)["text"]


def test_a_proxy_in_between(nowhere: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{nowhere}")
    monkeypatch.delenv("no_proxy", raising=False)
    code, findings = doctor("no-such-host.invalid:8001", "--timeout", "2")
    assert code == 1
    assert findings["proxy"]["mark"] == "warning"
    assert f"go through http://{nowhere}" in findings["proxy"]["text"]
    assert "no_proxy=no-such-host.invalid" in findings["proxy"]["remedy"]


def test_a_proxy_that_the_host_is_spared(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, telling: Telling
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "proxy" not in doctor(telling.url)[1]  # this machine
    monkeypatch.setenv("no_proxy", "no-such-host.invalid")
    assert "proxy" not in doctor("no-such-host.invalid:8001", "--timeout", "1")[1]


# Certificates and keys.


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of PEM files, see certificates.write."""
    folder = tmp_path_factory.mktemp("certificates")
    certificates.write(folder)
    return folder


@pytest.fixture
def encrypted(telling: Telling, files: Path) -> Iterator[str]:
    """host:port of `telling` with TLS."""
    pair = ((files / "server.key").read_bytes(), (files / "server.pem").read_bytes())
    running = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(telling, running)
    port = running.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    running.start()
    yield f"127.0.0.1:{port}"
    running.stop(None).wait()


def test_an_encrypted_server(encrypted: str, files: Path, doctor: Doctor) -> None:
    code, findings = doctor(f"grpcs://{encrypted}", "--ca", str(files / "ca.pem"))
    assert code == 0, findings


def test_no_encryption_where_there_should_be(encrypted: str, doctor: Doctor) -> None:
    code, findings = doctor(encrypted, "--timeout", "2")
    assert code == 1
    assert "speaks TLS" in wrong(findings)["text"]
    assert f"grpcs://{encrypted}" in wrong(findings)["remedy"]


@pytest.mark.parametrize("authority", ["stranger", None])
def test_a_certificate_of_somebody_else(
    authority: str | None, encrypted: str, files: Path, doctor: Doctor
) -> None:
    trust = ["--ca", str(files / f"{authority}.pem")] if authority else []
    code, findings = doctor(f"grpcs://{encrypted}", "--timeout", "2", *trust)
    assert code == 1
    assert "the certificate of" in wrong(findings)["text"]
    assert "--ca" in wrong(findings)["remedy"]


def test_a_key_opens_the_server(telling: Telling, doctor: Doctor) -> None:
    telling.key = "secret"
    assert doctor(telling.url, "--api-key", "secret", "--api-key-header", "X-Key")[0] == 0
    code, findings = doctor(telling.url)
    assert code == 1
    assert "--api-key" in wrong(findings)["remedy"]


# What a real server is hard to bring to.


def test_a_server_that_is_full(telling: Telling, doctor: Doctor) -> None:
    telling.refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    code, findings = doctor(telling.url)
    assert code == 1
    assert "the server is full" in wrong(findings)["text"]


def test_a_server_that_stops(telling: Telling, doctor: Doctor) -> None:
    telling.refuse(grpc.StatusCode.UNAVAILABLE, "Server is stopping")
    code, findings = doctor(telling.url)
    assert code == 1
    assert "takes no requests now: Server is stopping" in wrong(findings)["text"]


def test_an_answer_with_other_tensors(telling: Telling, doctor: Doctor) -> None:
    telling.answer = lambda *_: {
        name: tensor for name, tensor in answer_tensors().items() if name != "image_size"
    }
    code, findings = doctor(telling.url)
    assert code == 1
    assert "image_size" in wrong(findings)["text"]


def test_a_gateway_is_named_and_what_it_hides_left_out(telling: Telling, doctor: Doctor) -> None:
    telling.gateway = "ssd-gateway"
    telling.clock_ahead = 100.0
    code, findings = doctor(telling.url)
    assert code == 0
    assert "ask a server itself" in findings["gateway"]["remedy"]
    assert findings["gateway"]["facts"] == {"name": "ssd-gateway"}
    assert findings["latency"]["facts"]["steps"] == []
    assert "clock" not in findings


def test_another_name_of_the_ensemble_behind_a_gateway(telling: Telling, doctor: Doctor) -> None:
    telling.gateway = "ssd-gateway"
    code, findings = doctor(telling.url, "--model", "potholes")
    assert code == 1
    assert "It serves postprocess, preprocess, ssd" in wrong(findings)["remedy"]


def test_an_old_server(telling: Telling, doctor: Doctor) -> None:
    telling.version = "2.9.0"
    code, findings = doctor(telling.url)
    assert (code, findings["server"]["mark"]) == (0, "warning")
    assert "triton 2.9.0 is older than" in findings["server"]["text"]


def test_a_version_that_did_not_load(telling: Telling, doctor: Doctor) -> None:
    telling.ready = False
    code, findings = doctor(telling.url)
    assert (code, findings["server"]["mark"]) == (0, "warning")
    assert "a version of some model did not load" in findings["server"]["text"]


def test_no_version_that_is_ready(telling: Telling, doctor: Doctor) -> None:
    telling.versions = []
    telling.refuse(grpc.StatusCode.NOT_FOUND, "'ensemble' has no available versions")
    code, findings = doctor(telling.url)
    assert code == 1
    assert wrong(findings)["subject"] == "inference"


def test_a_clock_that_runs_ahead(telling: Telling, doctor: Doctor) -> None:
    telling.clock_ahead = 3600
    code, findings = doctor(telling.url)
    assert (code, findings["clock"]["mark"]) == (0, "warning")
    assert "s ahead of this machine's" in findings["clock"]["text"]


def test_labels_that_were_not_all_seen(telling: Telling, doctor: Doctor) -> None:
    assert doctor(telling.url)[1]["labels"]["text"] == "1 of 3 were seen: RBC"


def test_a_canary(telling: Telling, doctor: Doctor) -> None:
    telling.canary = {"canary_version": "2", "canary_share": "0.1"}
    code, findings = doctor(telling.url)
    assert (code, findings["canary"]["mark"]) == (0, "ok")
    assert findings["canary"]["text"] == (
        "ensemble_canary: preprocess 1, ssd 2, postprocess 1 on trial for 10% of the keys"
    )


def test_a_canary_that_fails(telling: Telling, doctor: Doctor) -> None:
    def answer(request, context):
        if request.model_name == "ensemble_canary":
            context.abort(grpc.StatusCode.INTERNAL, "broken weights")
        return answer_tensors()

    telling.canary = {"canary_version": "2", "canary_share": "0.1"}
    telling.answer = answer
    code, findings = doctor(telling.url)
    assert (code, findings["canary"]["mark"]) == (0, "warning")
    assert "broken weights" in findings["canary"]["text"]


def test_a_server_that_tells_nothing_still_detects(telling: Telling, doctor: Doctor) -> None:
    telling.closed = {"metadata", "model-config", "statistics"}
    code, findings = doctor(telling.url)
    assert code == 0
    assert findings["versions"]["mark"] == "warning"
    assert "restricted" in findings["versions"]["text"]
    assert findings["inference"]["mark"] == "ok"
    assert "clock" not in findings


@pytest.mark.parametrize(
    "arguments",
    [["http:/x"], ["a:1,b:2"], ["a:1", "--requests", "0"], ["a:1", "--timeout", "0"], ["a:1", "b"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: Any = main(["doctor", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err
