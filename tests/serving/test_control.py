"""What the server is asked and told, on the real one."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tritonclient.utils import InferenceServerException

from serving.control import Control, find_admin_key, sample_photo
from serving.errors import PrerequisiteError
from serving.server.server import EmbeddedServer


def test_nobody_there() -> None:
    with Control("127.0.0.1:1", "key") as control:
        assert not control.is_ready()
        with pytest.raises(InferenceServerException):
            control.infer("ensemble", 1.0)


def test_the_admin_keys_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_ADMIN_KEY", raising=False)
    monkeypatch.delenv("TRITON_ADMIN_KEY_FILE", raising=False)
    assert find_admin_key("") == ""
    monkeypatch.setenv("TRITON_ADMIN_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(PrerequisiteError, match=r"TRITON_ADMIN_KEY_FILE is .*No such file"):
        find_admin_key("")
    (tmp_path / "key").write_text("of the file\n")
    assert find_admin_key("") == "of the file"
    monkeypatch.setenv("TRITON_ADMIN_KEY", "of the environment")
    assert find_admin_key("") == "of the environment"
    assert find_admin_key("given") == "given"


class Keeping(grpc.GenericRpcHandler):
    """Knows no call, and keeps the headers of each."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str | bytes]] = []

    def service(self, details: grpc.HandlerCallDetails) -> None:
        self.headers.append(dict(details.invocation_metadata))


def test_an_inference_can_be_found_by_its_trace() -> None:
    keeping = Keeping()
    running = grpc.server(ThreadPoolExecutor(1), handlers=[keeping])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    with Control(f"127.0.0.1:{port}", "key") as control:
        for trace in ("", "4bf92f3577b34da6a3ce929d0e0e4736"):
            with pytest.raises(InferenceServerException):
                control.infer("ensemble", 20, trace)
    running.stop(None).wait()
    untraced, traced = keeping.headers
    assert "traceparent" not in untraced
    parts = r"00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01"
    assert re.fullmatch(parts, str(traced["traceparent"]))


def test_wrong_key(server: EmbeddedServer) -> None:
    with Control(server.grpc_url, "a-wrong-key") as control:
        control.infer("ensemble", 20)
        with pytest.raises(InferenceServerException):
            control.models("READY")


def test_what_is_served(server: EmbeddedServer) -> None:
    with server.control() as control:
        assert control.is_ready()
        ensembles = [m for m in control.loaded() if control.config(m).platform == "ensemble"]
        assert ensembles == ["ensemble"]
        assert control.loaded_versions()["ssd"] == {2}
        assert control.triton_version() == "2.51.0"
        assert {"ensemble", "postprocess", "preprocess", "ssd"} <= set(control.models("READY"))
        assert [control.is_python(m) for m in ("preprocess", "ssd", "ensemble")] == [
            True,
            True,
            False,
        ]
        living = [stub.model(["preprocess", "ssd"]) for stub in server.process.stubs()]
        assert control.instances("preprocess") == living.count("preprocess") == 1
        assert control.instances("ssd") == living.count("ssd")
        assert control.has_version("ssd", "2")  # of the shipped two the newest
        assert not control.has_version("ssd", "99")


def test_sample_is_a_jpeg() -> None:
    assert sample_photo().startswith(b"\xff\xd8")
