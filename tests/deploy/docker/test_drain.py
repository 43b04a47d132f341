"""drain.py: what it says where it cannot drain.

That it loses no request is seen in the chart's pod: tests/deploy/kubernetes/test_triton_pod.py.
"""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from tests.conftest import PROJECT

DRAIN = PROJECT / "deploy" / "docker" / "drain.py"


class Server(Protocol):
    """The `image_server` fixture."""

    key: str

    def url(self, protocol: str) -> str: ...


def drain(*arguments: str, **variables: str) -> tuple[int, str]:
    """Its exit code and the one line it printed, by the system's own Python without packages."""
    command = [sys.executable, "-I", "-S", str(DRAIN), "--wait", "0", *arguments]
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.removesuffix("\n")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"127.0.0.1:{listener.getsockname()[1]}"
    code, said = drain(nobody)
    assert code == 1
    assert said.startswith(f"not drained: {nobody}: ")


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    code, said = drain("127.0.0.1:1", TRITON_ADMIN_KEY_FILE=str(tmp_path / "key"))
    assert code == 1
    assert "No such file" in said


def test_without_the_key_it_unloads_nothing(image_server: Server) -> None:
    code, said = drain(image_server.url("http"))
    assert code == 1
    assert said.startswith(f"not drained: {image_server.url('http')}: status 403")


def test_wrong_usage() -> None:
    assert drain("--seconds", "soon")[0] == 2
