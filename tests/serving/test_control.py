"""What the server is asked and told, on the real one."""

import pytest
from tritonclient.utils import InferenceServerException

from serving.control import Control, sample_photo
from serving.server.server import EmbeddedServer


def test_nobody_there() -> None:
    with Control("127.0.0.1:1", "key") as control:
        assert not control.is_ready()
        with pytest.raises(InferenceServerException):
            control.infer("ensemble", 1.0)


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
