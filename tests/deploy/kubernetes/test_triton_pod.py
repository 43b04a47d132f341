"""A server's pod: its probes, its hook and its command, executed against a real server."""

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest

from client import Detector, DetectorError
from serving.server.prerequisites import check_machine
from serving.server.tritonserver import environment, make_stub_environment
from tests.conftest import PROJECT, wait_until
from tests.deploy.kubernetes.conftest import CHART, VALUES, Render, container, pod

DOCKER = PROJECT / "deploy" / "docker"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
BYTES = {"Mi": 2**20, "Gi": 2**30}

everything = pytest.mark.parametrize("files", VALUES.values(), ids=VALUES)


class Server(Protocol):
    """The `image_server` fixture."""

    key: str

    def url(self, protocol: str) -> str: ...
    def post(self, path: str, key: str | None = None) -> int: ...
    def stubs(self) -> Sequence[Any]: ...


def execute(
    command: list[str], server: Server, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run what the kubelet runs: in the image it finds the scripts, and the server on port 8000."""
    program, script, *options = command
    assert program == "python3"
    here = [sys.executable, str(DOCKER / Path(script).name), server.url("http"), *options]
    return subprocess.run(here, env=variables, capture_output=True, text=True, check=False)


@everything
def test_each_file_that_is_named_is_in_the_image(render: Render, files: list[str]) -> None:
    copied = (DOCKER / "triton.Dockerfile").read_text()
    named = set(re.findall(r"/opt/ssd-on-triton/([\w.]+)", json.dumps(render(files))))
    assert named == {"serve.sh", "healthcheck.py", "drain.py"}
    for name in named:
        assert f"deploy/docker/{name} " in copied


@pytest.mark.parametrize("probe", PROBES)
def test_probes_find_a_server_well_that_is(
    render: Render, image_server: Server, probe: str
) -> None:
    one = container(render(), "ssd-triton")
    done = execute(one[probe]["exec"]["command"], image_server)
    assert done.returncode == 0, done.stdout


@everything
def test_readiness_fails_sooner_than_liveness(render: Render, files: list[str]) -> None:
    """And the kubelet waits longer than the script does, so that the script says what is wrong."""
    one = container(render(files), "ssd-triton")
    seconds = {}
    for name in PROBES:
        command = one[name]["exec"]["command"]
        assert one[name]["timeoutSeconds"] > float(command[command.index("--timeout") + 1])
        seconds[name] = one[name]["failureThreshold"] * one[name]["periodSeconds"]
    slow = one["livenessProbe"]["failureThreshold"] * one["livenessProbe"]["timeoutSeconds"]
    assert 4 * seconds["readinessProbe"] <= seconds["livenessProbe"]
    assert slow > 120  # of a server that is only slow
    assert seconds["startupProbe"] >= 300


class Slow(BaseHTTPRequestHandler):
    """A server that answers, but late."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.late.wait(60)  # type: ignore[attr-defined]
        body = b'{"outputs": [{"name": "num_detections", "data": [0]}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_who_is_slow_is_left_alone_before_it_is_started_anew(render: Render) -> None:
    """Both probes ask a server that answers after the one's patience, and within the other's."""
    one = container(render(), "ssd-triton")
    commands = {name: one[name]["exec"]["command"] for name in PROBES}
    patience = {name: float(words[-1]) for name, words in commands.items()}
    assert patience["readinessProbe"] < patience["livenessProbe"] / 2
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.late = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        here = [sys.executable, str(DOCKER / "healthcheck.py"), address, "--timeout"]
        alive = subprocess.Popen([*here, commands["livenessProbe"][-1]], stdout=subprocess.DEVNULL)
        ready = subprocess.run([*here, "0.5"], stdout=subprocess.DEVNULL, check=False)
        server.late.set()  # type: ignore[attr-defined]
        assert (ready.returncode, alive.wait(60)) == (1, 0)
        server.shutdown()


def count_finished(server: Server) -> int:
    """Photos that have been through the last step."""
    url = f"http://{server.url('http')}/v2/models/postprocess/stats"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return sum(each["inference_count"] for each in json.load(answer)["model_stats"])


@pytest.fixture
def ending(image_server: Server) -> Iterator[Server]:
    """The server, whose ensemble is loaded again after the test."""
    yield image_server
    assert image_server.post("/v2/repository/models/ensemble/load", image_server.key) == 200


def test_it_answers_all_that_it_has_and_then_no_more(
    render: Render, ending: Server, tmp_path: Path
) -> None:
    one = container(render(), "ssd-triton")
    [key] = [each["value"] for each in one["env"] if each["name"] == "TRITON_ADMIN_KEY_FILE"]
    assert Path(key).parent == Path("/etc/ssd/admin")
    (tmp_path / "key").write_text(f"{ending.key}\n")  # as a file that an editor wrote
    command = one["lifecycle"]["preStop"]["exec"]["command"]
    command[command.index("--wait") + 1] = "0"
    large = cv2.imencode(".jpg", np.zeros((5000, 5000, 3), np.uint8))[1].tobytes()
    answers = []

    def ask() -> str:
        """Send large photos until one is refused, and how."""
        with Detector(ending.url("grpc"), retries=0, timeout=120) as detector:
            while True:
                try:
                    answers.append(detector.detect(large))
                except DetectorError as error:
                    return str(error)

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(6)]
        wait_until(lambda: len(answers) > 2)
        done = execute(command, ending, {"TRITON_ADMIN_KEY_FILE": str(tmp_path / "key")})
        finished = count_finished(ending)
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith("drained: all was answered")
        for each in asking:
            assert "takes no requests now" in each.result(120)
        assert count_finished(ending) == finished  # nothing was under way any more
    probe = execute(one["readinessProbe"]["exec"]["command"], ending)
    assert probe.returncode == 1


@everything
def test_it_gets_the_time_to_end(render: Render, files: list[str]) -> None:
    """Triton itself waits 30 s for what is still under way (--exit-timeout-secs)."""
    for seconds in (30, 90):
        objects = render(files, triton__drainSeconds=seconds)
        command = container(objects, "ssd-triton")["lifecycle"]["preStop"]["exec"]["command"]
        wait, drain = (float(command[command.index(o) + 1]) for o in ("--wait", "--seconds"))
        assert drain == seconds
        assert pod(objects, "ssd-triton")["terminationGracePeriodSeconds"] > wait + drain + 30


@pytest.mark.parametrize(
    ("files", "values", "wanted"),
    [
        ([], {}, ["--model-repository=/models"]),
        ([], {"repository__claim": "models"}, ["--model-repository=/repository/models"]),
        (["gpu.yaml"], {}, ["--model-config-name=gpu"]),
        (["s3.yaml"], {}, ["--model-repository=s3://bucket/models"]),
        ([], {"triton__arguments": "{--log-verbose=1}"}, ["--log-verbose=1"]),
    ],
)
def test_its_command_starts_the_server_that_was_asked_for(
    render: Render, tmp_path: Path, files: list[str], values: dict[str, str], wanted: list[str]
) -> None:
    """serve.sh, with its variables as they stand in the pod, and a key from a file."""
    one = container(render(files, **values), "ssd-triton")
    (tmp_path / "tritonserver").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "tritonserver").chmod(0o755)
    (tmp_path / "key").write_text("k" * 16 + "\n")
    variables = {each["name"]: each["value"] for each in one["env"]}
    assert variables["TRITON_ADMIN_KEY_FILE"] == "/etc/ssd/admin/key"
    variables |= {"TRITON_ADMIN_KEY_FILE": str(tmp_path / "key")}
    variables |= {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"}
    shell, script, *options = one["args"]
    done = subprocess.run(
        [shell, DOCKER / Path(script).name, *options],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    passed = done.stdout.splitlines()
    assert set(wanted) <= set(passed)
    assert [word for word in passed if "admin-key=kkkkkkkkkkkkkkkk" in word]


class Denying(BaseHTTPRequestHandler):
    """A store that lets nobody in, and keeps whom it was."""

    def do_HEAD(self) -> None:
        asked: list[str] = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.headers["authorization"])
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_triton_asks_the_bucket_with_the_keys_of_the_secret(render: Render, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 16)
    keys = "[default]\naws_access_key_id = of-the-secret\naws_secret_access_key = b\n"
    (tmp_path / "credentials").write_text(keys)
    wheel = check_machine()
    with ThreadingHTTPServer(("127.0.0.1", 0), Denying) as store:
        store.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=store.serve_forever, daemon=True).start()
        address = f"s3://http://127.0.0.1:{store.server_port}/bucket/models"
        values = {"repository__address": address, "repository__credentialsSecret": "keys"}
        one = container(render(["s3.yaml"], **values), "ssd-triton")
        variables = {each["name"]: each["value"] for each in one["env"]}
        for name, file in (
            ("TRITON_ADMIN_KEY_FILE", "key"),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ):
            assert Path(variables[name]).name == file
            variables[name] = str(tmp_path / file)
        wheels = environment(wheel, make_stub_environment(tmp_path / "stubs"))
        wheels = {name: value for name, value in wheels.items() if not name.startswith("AWS")}
        wheels["PATH"] += f"{os.pathsep}{wheel.executable.parent}"
        done = subprocess.run(
            ["sh", DOCKER / "serve.sh"],
            env=wheels | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        store.shutdown()
    assert done.returncode == 1
    assert "Check account credentials" in done.stderr
    [whom, *_] = store.asked  # type: ignore[attr-defined]
    assert "Credential=of-the-secret/" in whom
    assert "/eu-central-1/s3/" in whom


@everything
def test_its_memory_holds_what_lies_in_it(render: Render, files: list[str]) -> None:
    """What is in /dev/shm counts as the container's memory; the server needs a part, too."""
    objects = render(files)
    [shm] = [v["emptyDir"] for v in pod(objects, "ssd-triton")["volumes"] if v["name"] == "shm"]
    limits = container(objects, "ssd-triton")["resources"]["limits"]
    assert shm["medium"] == "Memory"
    assert size(limits["memory"]) - size(shm["sizeLimit"]) >= 2 * 2**30
    assert "cpu" not in limits


def size(quantity: str) -> int:
    """Bytes."""
    return int(quantity[:-2]) * BYTES[quantity[-2:]]


def test_where_it_may_write_is_what_serve_and_triton_write_to(render: Render) -> None:
    one = container(render(["s3.yaml"]), "ssd-triton")
    writable = {m["mountPath"] for m in one["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/dev/shm", "/tmp"}


def test_a_gpu_is_asked_for(render: Render) -> None:
    limits = container(render(["gpu.yaml"]), "ssd-triton")["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    variant = PROJECT / "model_repository" / "ssd" / "configs" / "gpu.pbtxt"
    assert variant.is_file()
    assert "variant: gpu" in (CHART / "gpu.yaml").read_text()
