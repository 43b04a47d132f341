"""A stub ends with the process that started its server, whatever it is doing."""

import subprocess
import sys

from serving.tritonserver import STUB_START

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
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, b"")
