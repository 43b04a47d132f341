"""The embedded server answers where it says, guards what it should, and leaves nothing behind."""

import http.client
import json
import re
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from serving.errors import StoreError
from serving.server import shared_memory, watch
from serving.server.process import find_stubs
from serving.server.server import (
    EmbeddedServer,
    PrerequisiteError,
    ServerSettings,
    StartError,
    reachable,
)
from serving.store.address import open_store
from tests.conftest import completing, wait_until
from tests.serving.test_artifact import flip_a_bit


def get(url: str, path: str) -> tuple[int, str]:
    """HTTP GET: status and body."""
    connection = http.client.HTTPConnection(url, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def post(url: str, path: str, headers: dict[str, str]) -> int:
    """HTTP POST without a body: status."""
    connection = http.client.HTTPConnection(url, timeout=20)
    connection.request("POST", path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def leftovers(server: EmbeddedServer) -> list[object]:
    """What is still there of a server."""
    prefix = server._region.prefix
    files = [*shared_memory.FOLDER.glob(f"{prefix}*"), *Path("/tmp").glob(f"{prefix}*")]
    return [*files, *find_stubs(prefix)]


def test_it_is_a_real_triton(server: EmbeddedServer) -> None:
    status, body = get(server.http_url, "/v2")
    assert (status, json.loads(body)["name"]) == (200, "triton")
    assert get(server.http_url, "/v2/health/ready")[0] == 200


def test_triton_has_nothing_to_complete_in_the_shipped_configurations(
    server: EmbeddedServer, project_repository: Path
) -> None:
    """So most other servers of tests start without that."""
    with completing(), EmbeddedServer(ServerSettings(project_repository)) as completed:
        assert configurations(completed) == configurations(server)


def configurations(server: EmbeddedServer) -> dict[str, str]:
    """What each model runs with."""
    with server.control() as control:
        return {model: str(control.config(model)) for model in control.models("READY")}


def test_metrics(server: EmbeddedServer) -> None:
    status, body = get(server.metrics_url, "/metrics")
    assert status == 200
    assert 'nv_inference_request_success{model="ensemble"' in body


def test_everything_listens_on_loopback_only(server: EmbeddedServer) -> None:
    for url in (server.http_url, server.grpc_url, server.metrics_url):
        with pytest.raises(ConnectionRefusedError):  # another address of this machine
            socket.create_connection(("127.0.0.2", int(url.split(":")[1])), timeout=2)


def test_models_cannot_be_unloaded_without_the_key(server: EmbeddedServer) -> None:
    with (
        grpc_client.InferenceServerClient(server.grpc_url) as client,
        pytest.raises(InferenceServerException, match=r"not allowed|unavailable|restricted"),
    ):
        client.unload_model("ssd")
    path = "/v2/repository/models/ssd/unload"
    assert post(server.http_url, path, {}) == 403
    assert post(server.http_url, path, {"admin-key": "a-wrong-one"}) == 403


def test_key_opens_the_index(server: EmbeddedServer) -> None:
    path = "/v2/repository/index"
    assert post(server.http_url, path, {"admin-key": server.admin_key}) == 200
    with server.control() as control:
        assert "ensemble" in control.models("READY")


def test_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_ADMIN_KEY", "from-the-environment")
    assert EmbeddedServer(ServerSettings(Path())).admin_key == "from-the-environment"
    given = ServerSettings(Path(), admin_key="given-in-settings")
    assert EmbeddedServer(given).admin_key == "given-in-settings"


def test_serving_writes_nothing_into_the_repository_and_leaves_nothing(repository: Path) -> None:
    before = sorted(repository.rglob("*"))
    with EmbeddedServer(ServerSettings(repository)) as server:
        assert server.log_file is not None
        assert server.log_file.is_file()
    assert sorted(repository.rglob("*")) == before
    assert leftovers(server) == []
    server.stop()  # a second time does nothing


def test_only_its_own_user_can_read_what_it_makes(server: EmbeddedServer) -> None:
    """Photos pass through /dev/shm, where Triton's library opens its files to everyone."""
    shared = list(shared_memory.FOLDER.glob(f"{server._region.prefix}*"))
    assert len(shared) == 1 + len(server.process.stubs())
    assert {path.name: mode(path) for path in shared} == dict.fromkeys(
        (path.name for path in shared), 0o600
    )
    assert mode(server._region.folder) == 0o700  # with the log, the backends and the stubs' Python
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert re.search(r"^Umask:\s+0077$", status, re.MULTILINE)


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_port_in_use(project_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedServer(ServerSettings(project_repository, metrics_port=port))
        with pytest.raises(PrerequisiteError, match=f"--metrics-port {port}"):
            server.start()
    assert leftovers(server) == []


def test_failing_model_is_named_with_its_message(repository: Path) -> None:
    (repository / "preprocess" / "1" / "model.py").write_text("import no_such_module\n")
    server = EmbeddedServer(ServerSettings(repository))
    with pytest.raises(StartError, match=r"model preprocess: .*No module named 'no_such_module'"):
        server.start()
    assert leftovers(server) == []


def test_a_process_that_dies_while_it_starts_ends_the_start(repository: Path) -> None:
    code = "import os, sys\nsys.stderr.write('no such instruction\\n')\nos.kill(os.getpid(), 11)\n"
    (repository / "preprocess" / "1" / "model.py").write_text(code)
    server = EmbeddedServer(ServerSettings(repository))
    # Triton waits for ever for one that dies while its configuration is completed.
    with (
        completing(),
        pytest.raises(StartError, match=r"ended by signal 11\nno such instruction"),
    ):
        server.start()
    assert leftovers(server) == []


def test_a_failed_model_ends_the_start_while_another_loads_for_long(repository: Path) -> None:
    (repository / "preprocess" / "1" / "model.py").write_text("import no_such_module\n")
    (repository / "postprocess" / "1" / "model.py").write_text("import time\ntime.sleep(1000)\n")
    server = EmbeddedServer(ServerSettings(repository))
    with pytest.raises(StartError, match=r"model preprocess: .*No module named 'no_such_module'"):
        server.start()
    assert leftovers(server) == []


def test_messages_call_the_repository_as_its_owner_does(repository: Path) -> None:
    (repository / "preprocess" / "1" / "model.py").write_text("import no_such_module\n")
    server = EmbeddedServer(ServerSettings(repository))
    with pytest.raises(StartError, match=rf"{repository}/preprocess/1/model.py"):
        server.start()


def test_a_damaged_network_is_not_served(project_repository: Path, tmp_path: Path) -> None:
    repository = shutil.copytree(project_repository, tmp_path / "models")
    flip_a_bit(repository / "ssd" / "2" / "model.onnx")
    server = EmbeddedServer(ServerSettings(repository))
    with pytest.raises(StoreError, match=r"ssd/2/model\.onnx is not the file that was published"):
        server.start()
    assert leftovers(server) == []


def test_no_ensemble_takes_photos(repository: Path) -> None:
    shutil.rmtree(repository / "ensemble")
    server = EmbeddedServer(ServerSettings(repository))
    with pytest.raises(
        StartError, match=r"no ensemble that takes photos.* postprocess, preprocess"
    ):
        server.start()
    assert leftovers(server) == []


def test_a_half_made_model_keeps_no_server_from_starting(repository: Path) -> None:
    (repository / "half").mkdir()
    shutil.copy(repository / "ensemble" / "config.pbtxt", repository / "half")
    lines: list[str] = []
    with EmbeddedServer(ServerSettings(str(repository)), lines.append) as server:
        assert server.photo_models == ["ensemble"]
    assert len(lines) == 1
    assert lines[0].startswith("half is left out, it has no version folder with a file")


@pytest.mark.usefixtures("moto_server")  # for its credentials
def test_a_store_that_is_away_is_one_sentence() -> None:
    server = EmbeddedServer(ServerSettings("s3://127.0.0.1:9/bucket/models"))
    with pytest.raises(StoreError, match=r"the store 127\.0\.0\.1:9 cannot be reached"):
        server.start()
    assert leftovers(server) == []


def test_serving_straight_from_s3_with_a_version_uploaded_meanwhile(
    s3: str, repository: Path, make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STORE_SECONDS", 0.5)
    store = open_store(s3)
    store.create(repository)
    lines: list[str] = []
    with (
        EmbeddedServer(ServerSettings(s3, watch=True), lines.append) as server,
        server.control() as control,
    ):
        assert control.has_version("ssd", "1")
        store.place("ssd/2", {"model.onnx": (make_artifact() / "model.onnx").read_bytes()})
        wait_until(lambda: "loaded ssd anew" in lines)
        assert control.has_version("ssd", "2")
        control.infer("ensemble", 10)
    assert lines == ["loaded ssd anew"]
    assert leftovers(server) == []


def test_refused_argument_of_tritonserver(project_repository: Path) -> None:
    settings = ServerSettings(project_repository, arguments=("--no-such-option=1",))
    with pytest.raises(StartError, match="unrecognized option '--no-such-option=1'"):
        EmbeddedServer(settings).start()


def test_watched_repository_loads_what_changes(
    repository: Path, make_artifact: Callable[..., Path]
) -> None:
    lines: list[str] = []
    with EmbeddedServer(ServerSettings(repository, watch=True), lines.append) as server:
        network = (make_artifact() / "model.onnx").read_bytes()
        told = "ssd was not loaded, the old one goes on: "
        (repository / "ssd" / "2").mkdir()
        (repository / "ssd" / "2" / "model.onnx").write_bytes(network[:1000])
        wait_until(lambda: any(line.startswith(told) for line in lines))
        with server.control() as control:
            control.infer("ensemble", 10)  # the old version goes on
            (repository / "ssd" / "2" / "model.onnx").write_bytes(network)
            wait_until(lambda: "loaded ssd anew" in lines)
            assert control.has_version("ssd", "2")


@pytest.mark.parametrize("address", ["0.0.0.0", "localhost"])
def test_address_for_clients_here(address: str) -> None:
    assert reachable(address) == "127.0.0.1"
    assert reachable("192.0.2.1") == "192.0.2.1"
