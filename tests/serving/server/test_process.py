"""Stubs are told from other processes; a child ends with its parent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.server.process import (
    LAUNCHER,
    Stub,
    describe_exit,
    find_stubs,
    read_stub,
)
from serving.server.server import EmbeddedServer
from tests.conftest import wait_until

MODES = """
import os, pathlib
file = os.open("made", os.O_CREAT | os.O_RDWR, 0o666)
for mode in (None, 0o644, 0o640, 0o644):
    if mode:
        os.fchmod(file, mode)
    print(oct(os.fstat(file).st_mode & 0o777))
"""

START_AND_DIE = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, sys.argv[1], str(os.getpid()), "/bin/sleep", "60"])
print(child.pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_stub_has_an_unused_prefix() -> None:
    assert find_stubs("nobody-uses-this-") == []


def test_other_processes_are_no_stubs() -> None:
    assert read_stub(os.getpid()) is None
    assert read_stub(2**22 + 1) is None


@pytest.mark.parametrize(
    ("instance", "model"), [("ssd_0_1", "ssd"), ("ssd_fast_0_0", "ssd_fast"), ("pre_0", None)]
)
def test_model_of_an_instance(instance: str, model: str | None) -> None:
    assert Stub(1, "region", instance).model(["ssd", "ssd_fast"]) == model


def test_stubs_of_the_server(server: EmbeddedServer) -> None:
    stubs = server.process.stubs()
    assert {stub.model(["preprocess", "ssd", "postprocess"]) for stub in stubs} == {
        "preprocess",
        "ssd",
        "postprocess",
    }
    assert all(stub.is_alive() for stub in stubs)
    assert server.process.dead_stubs() == []


def test_child_ends_with_a_killed_parent() -> None:
    command = [sys.executable, "-c", START_AND_DIE, str(LAUNCHER)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        wait_until(lambda: b"sleep" in (child / "cmdline").read_bytes())
        parent.communicate("\n")
    wait_until(lambda: not child.exists() or not (child / "cmdline").read_bytes())


def test_child_opens_nothing_to_everyone(tmp_path: Path) -> None:
    command = [sys.executable, str(LAUNCHER), str(os.getpid()), sys.executable, "-c", MODES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0o600", "0o600", "0o640", "0o640"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "was ended by signal 9"), (1, "ended with exit code 1")]
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
