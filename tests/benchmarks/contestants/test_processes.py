"""Finding a server's processes and what they cost."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from benchmarks.contestants import processes

WORK = (
    "import time\nwhile time.process_time() < 0.2: pass\nprint('busy', flush=True)\ntime.sleep(60)"
)
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORK!r}], env={{}})"


@pytest.fixture
def family() -> Iterator[set[psutil.Process]]:
    """A marked process whose child was given an empty environment."""
    mark = f"test-{os.getpid()}"
    environment = os.environ | {processes.MARK: mark}
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # the child has worked
        yield processes.family(mark)
        for each in processes.family(mark):
            each.kill()


def test_nobody_has_an_unknown_mark() -> None:
    assert processes.family("nobody's") == set()


def test_family_and_its_cost(family: set[psutil.Process]) -> None:
    assert len(family) == 2
    now = processes.cpu_seconds(family)
    name = processes.role(next(iter(family)))
    assert processes.spent({}, now)[name] >= 0.2
    assert processes.spent(now, now) == {name: 0}
    sizes = processes.memory(family)[name]
    assert sizes["processes"] == 2
    assert 0 < sizes["pss"] <= sizes["rss"] < 500


def test_processes_that_ended_cost_nothing_more() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        process = psutil.Process(started.pid)
    assert processes.cpu_seconds([process]) == {}
    assert processes.memory([process]) == {}
