"""Workers: processes that measure on command, so that what they cost can be told apart.

A worker reads one JSON object a line from its standard input and answers each with one line on its
standard output. Between commands it waits there, which costs nothing.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Self

from benchmarks import ROOT


class WorkerError(RuntimeError):
    """A worker ended without an answer."""


class Worker:
    """One worker process. A context manager.

    Args:
        module: what it runs, such as benchmarks.load.generator.
        setup: the first line it gets.
        environment: added to this process's own.
    """

    def __init__(
        self, module: str, setup: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self.module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
        )
        self.send(setup)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, command: Mapping[str, Any]) -> None:
        """Give a command, without waiting for the answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the oldest command.

        Raises:
            WorkerError: it ended.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.module} ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.send(command)
        return self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def serve_commands(
    make: Callable[[dict[str, Any]], Callable[[dict[str, Any]], dict[str, Any]]],
) -> None:
    """A worker's main: set up with the first line, answer the others, end with the input."""
    answer = make(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
