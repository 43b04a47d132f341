"""serve.sh: refuses to run without a real key, and starts a server that keeps its admin calls."""

import json
import subprocess
from contextlib import nullcontext
from http.client import HTTPConnection
from pathlib import Path
from typing import Protocol

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving.errors import PrerequisiteError
from serving.server.prerequisites import check_admin_key
from tests.conftest import PROJECT

SERVE = PROJECT / "deploy" / "docker" / "serve.sh"
INDEX = "/v2/repository/index"


class Server(Protocol):
    """The `image_server` fixture."""

    key: str
    log: str

    def url(self, protocol: str) -> str: ...
    def post(self, path: str, key: str | None = None) -> int: ...


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        (None, "TRITON_ADMIN_KEY is not set"),
        ("", "TRITON_ADMIN_KEY is not set"),
        ("short", "has 5 characters, 16 or more expected"),
        ("sixteen,characters", "letters, digits, dots, - and _ only"),
        ("sixteen characters", "letters, digits, dots, - and _ only"),
        ("$(touch a-file-here)", "letters, digits, dots, - and _ only"),
    ],
)
def test_refuses_a_key_that_protects_nothing(key: str | None, complaint: str) -> None:
    variables = {"PATH": "/usr/bin:/bin"} | ({} if key is None else {"TRITON_ADMIN_KEY": key})
    done = subprocess.run(
        ["sh", SERVE], env=variables, capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "openssl rand -hex 32" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "TRITON_ADMIN_KEY_FILE is {file}, which cannot be read"),
        ("short\n", "has 5 characters, 16 or more expected"),
        ("k" * 16, ""),
        ("k" * 16 + "\n", ""),
    ],
)
def test_the_key_may_stand_in_a_file(tmp_path: Path, content: str | None, told: str) -> None:
    program, file = tmp_path / "tritonserver", tmp_path / "key"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    if content is not None:
        file.write_text(content)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRITON_ADMIN_KEY_FILE": str(file)}
    done = subprocess.run(["sh", SERVE], env=variables, capture_output=True, text=True, check=False)
    assert told.format(file=file) in done.stderr
    assert ("admin-key=kkkkkkkkkkkkkkkk\n" in done.stdout) == (not told)
    assert len(done.stderr.splitlines()) == bool(told)


@pytest.mark.parametrize(("cores", "variant", "told"), [(2, "", 0), (8, "", 1), (8, "large", 0)])
def test_more_cores_than_the_configurations_suit(
    cores: int, variant: str, told: int, tmp_path: Path
) -> None:
    for name, line in (("nproc", f"echo {cores}"), ("tritonserver", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRITON_MODEL_CONFIG_NAME": variant}
    variables["TRITON_ADMIN_KEY"] = "0123456789abcdef"
    done = subprocess.run(["sh", SERVE], env=variables, capture_output=True, text=True, check=True)
    assert done.stderr.count(f"the configurations suit 2 cores, here are {cores}") == told
    assert len(done.stderr.splitlines()) == told


def test_loads_the_whole_repository_and_then_only_when_told(image_server: Server) -> None:
    for model, version in (("ensemble", 1), ("postprocess", 1), ("preprocess", 1), ("ssd", 2)):
        with_version = f"/v2/models/{model}/versions/{version}/ready"
        assert get(image_server.url("http"), with_version)[0] == 200
    assert "MODE_EXPLICIT" in image_server.log


def test_says_nothing_of_the_key(image_server: Server) -> None:
    assert image_server.key not in image_server.log


@pytest.mark.parametrize(
    "path",
    [
        INDEX,
        "/v2/repository/models/ssd/load",
        "/v2/repository/models/ssd/unload",
        "/v2/systemsharedmemory/unregister",
        "/v2/cudasharedmemory/unregister",
        "/v2/trace/setting",
        "/v2/logging",
    ],
)
def test_keeps_admin_calls_over_http(image_server: Server, path: str) -> None:
    assert image_server.post(path) == 403
    assert image_server.post(path, "another key") == 403


def test_opens_admin_calls_over_http_to_the_key(image_server: Server) -> None:
    assert image_server.post(INDEX, image_server.key) == 200


def test_keeps_admin_calls_over_grpc(image_server: Server) -> None:
    with InferenceServerClient(image_server.url("grpc")) as client:
        header = "triton-grpc-protocol-admin-key"
        for headers in ({}, {header: "another key"}):
            with pytest.raises(InferenceServerException, match="restricted"):
                client.get_model_repository_index(headers=headers)
        assert client.get_model_repository_index(headers={header: image_server.key}).models


def test_leaves_statistics_and_metadata_open(image_server: Server) -> None:
    status, text = get(image_server.url("http"), "/v2/models/ensemble")
    assert status == 200
    assert [tensor["name"] for tensor in json.loads(text)["inputs"]] == ["image"]
    assert get(image_server.url("http"), "/v2/models/stats")[0] == 200


def test_publishes_metrics(image_server: Server) -> None:
    status, text = get(image_server.url("metrics"), "/metrics")
    assert status == 200
    assert "nv_inference_pending_request_count" in text


def get(url: str, path: str) -> tuple[int, str]:
    """Status and text of an HTTP answer."""
    connection = HTTPConnection(url, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("variant", ["", "gpu"])
def test_passes_the_variant_on(tmp_path: Path, variant: str) -> None:
    program = tmp_path / "tritonserver"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRITON_ADMIN_KEY": "k" * 16}
    variables |= {"TRITON_MODEL_CONFIG_NAME": variant} if variant else {}
    done = subprocess.run(
        ["sh", SERVE, "--last=1"], env=variables, capture_output=True, text=True, check=True
    )
    passed = done.stdout.splitlines()
    assert "" not in passed
    assert [line for line in passed if "config-name" in line] == (
        [f"--model-config-name={variant}"] if variant else []
    )
    assert passed[-1] == "--last=1"


@pytest.mark.parametrize(("key", "good"), [("k" * 15, False), ("k" * 16, True), ("k,k" * 9, False)])
def test_keys_that_serve_for_a_container_serve_without_one(
    tmp_path: Path, key: str, good: bool
) -> None:
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\necho started\n")
    program.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRITON_ADMIN_KEY": key}
    done = subprocess.run(["sh", SERVE], env=variables, capture_output=True, text=True, check=False)
    assert done.stdout == ("started\n" if good else "")
    with nullcontext() if good else pytest.raises(PrerequisiteError):
        check_admin_key(key)
