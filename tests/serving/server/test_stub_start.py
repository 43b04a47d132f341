"""A stub ends with the process that started its server, whatever it is doing."""

import os
import subprocess
import sys

from serving.server.tritonserver import STUB_START

# PyDLL keeps Python's lock, as a stub that hangs does.
HANGING = "import runpy; runpy.run_path({!r}); print(1, flush=True); import ctypes; " + (
    "ctypes.PyDLL(None).sleep(60)"
)


def test_ends_although_it_hangs() -> None:
    command = [sys.executable, "-c", HANGING.format(str(STUB_START))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stub:
        assert stub.stdin
        assert stub.stdout
        assert stub.stdout.readline() == b"1\n"
        assert stub.poll() is None
        stub.stdin.close()
        assert stub.wait(10) == -9


def test_ends_where_the_other_had_ended_before() -> None:
    command = [sys.executable, "-c", HANGING.format(str(STUB_START))]
    pipe, other_end = os.pipe()
    os.close(other_end)
    done = subprocess.run(command, stdin=pipe, capture_output=True, timeout=10)
    os.close(pipe)
    assert (done.returncode, done.stdout) == (1, b"")


def test_lives_where_somebody_else_started_the_server() -> None:
    command = [sys.executable, "-c", HANGING.format(str(STUB_START))]
    stub = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with stub:
        assert stub.stdout
        assert stub.stdout.readline() == b"1\n"
        assert stub.poll() is None
        stub.kill()
