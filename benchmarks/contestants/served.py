"""Servers as contestants: each started, asked and ended.

`Served.run` loads one for some seconds and gives a `Slice`. Between its slices it is idle.
"""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks import ROOT
from benchmarks.contestants import processes
from benchmarks.contestants.slice import ContestantError, Expected, Slice
from benchmarks.contestants.worker import Worker, WorkerError
from serving.server import process

START_SECONDS = 180.0
STARTS = 3  # attempts; PyTriton gives its own processes one second to find each other
# A server that outlives a benchmark that was killed would go on taking memory.
LAUNCHER = (sys.executable, "-I", "-S", str(process.LAUNCHER))


@dataclass(frozen=True)
class Target:
    """A server to start and how to ask it.

    name: in tables.
    command: starts it; {port}, {other} and {third} are replaced by free ports.
    ask: for the load generator (benchmarks.load.generator), without address and photos.
    environment: added to this process's own; the same replacements.
    folder: working directory.
    """

    name: str
    command: Sequence[str]
    ask: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT


class Served:
    """A server that was started, with its load generator.

    Args:
        target: which.
        photos: what it is asked about.
        expected: its answers must agree with.
        log: file that takes what the server prints.

    Raises:
        ContestantError: it does not answer, or wrongly.
    """

    def __init__(
        self, target: Target, photos: Sequence[Path], expected: Expected, log: Path
    ) -> None:
        self.name = target.name
        self.port, other, third = free_ports(3)
        self.address = f"127.0.0.1:{self.port}"
        self._mark = uuid.uuid4().hex
        ports = {"port": str(self.port), "other": str(other), "third": str(third)}
        environment = {key: filled(text, ports) for key, text in target.environment.items()}
        began = time.perf_counter()
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*LAUNCHER, str(os.getpid()), *(filled(text, ports) for text in target.command)],
                env=os.environ | environment | {processes.MARK: self._mark},
                cwd=target.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._log = log
        self._load: Worker | None = None
        try:
            self.wait_for_port()
            setup = {"address": self.address, "photos": [str(photo) for photo in photos]}
            self._setup = setup | {"expected": list(expected)} | dict(target.ask)
            self.start_seconds = self.verify(len(photos), began)
        except BaseException:
            self.close()
            raise

    def wait_for_port(self) -> None:
        """Until something listens."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ContestantError(f"{self.name} ended: {self.last_lines()}")
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1),
            ):
                return
            time.sleep(0.1)
        raise ContestantError(f"{self.name} listens on no port: {self.last_lines()}")

    def verify(self, photos: int, began: float) -> float:
        """Every photo's answer is what it should be, read in full.

        Returns:
            Seconds from the start to the first answers.
        """
        deadline = time.monotonic() + START_SECONDS
        started = 0.0
        while True:
            self._load = self._load or Worker("benchmarks.load.generator", self._setup)
            verdicts: dict[str, int] = {}
            with contextlib.suppress(WorkerError):
                one = {"concurrency": 1, "requests": 1, "sample": 1}
                verdicts = self._load.ask(one)["verdicts"]
            if "OK" in verdicts and not started:
                started = time.perf_counter() - began
            if verdicts == {"OK": 1} or "WRONG" in verdicts:
                break
            if not verdicts or "CLOSED" in verdicts:  # with a connection of its own, once more
                self._load.__exit__(None, None, None)
                self._load = None
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise ContestantError(f"{self.name} answers {verdicts}: {self.last_lines()}")
            time.sleep(0.2)
        assert self._load
        answer = self._load.ask({"concurrency": 1, "requests": photos, "sample": 1})
        if set(answer["verdicts"]) != {"OK"}:
            raise ContestantError(f"{self.name} answers {answer['verdicts']}")
        return started

    def run(self, concurrency: int = 1, seconds: float = 1.0, ramp: float = 0.2) -> Slice:
        """A closed loop."""
        return self._ask({"concurrency": concurrency, "seconds": seconds, "ramp": ramp})

    def send(self, concurrency: int, requests: int) -> Slice:
        """A closed loop of so many requests."""
        return self._ask({"concurrency": concurrency, "requests": requests})

    def run_at(self, rate: float, seconds: float, poisson: bool = True) -> Slice:
        """An open loop."""
        return self._ask({"rate": rate, "seconds": seconds, "poisson": poisson})

    def _ask(self, command: Mapping[str, Any]) -> Slice:
        assert self._load
        before, began = self.cpu(), time.perf_counter()
        answer = self._load.ask(command)
        seconds, after = time.perf_counter() - began, self.cpu()
        return Slice(
            throughput=answer["completed"] / answer["seconds"],
            latencies_ms=answer["latencies_ms"],
            generator_cpu=answer["cpu"],
            seconds=seconds,
            server_cpu=processes.spent(before, after),
            total=answer["total"],
            verdicts=answer["verdicts"],
            all_ms=answer.get("all_ms", math.nan),
            lateness_ms=answer.get("lateness_ms", ()),
            sent=answer.get("sent", 0.0),
        )

    def cpu(self) -> dict[int, tuple[str, float]]:
        """CPU seconds so far by process."""
        return processes.cpu_seconds(processes.family(self._mark))

    def idle_cores(self, seconds: float = 2.0) -> float:
        """Cores it keeps busy while nobody asks: what it takes from the bare pipeline's turns."""
        before, began = self.cpu(), time.perf_counter()
        time.sleep(seconds)
        used = sum(processes.spent(before, self.cpu()).values())
        return used / (time.perf_counter() - began)

    def memory(self) -> dict[str, dict[str, float]]:
        """By role, in MiB."""
        return processes.memory(processes.family(self._mark))

    def last_lines(self) -> str:
        """The end of what it printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    def close(self) -> None:
        """End the load generator and the server with all its processes."""
        if self._load:
            self._load.__exit__(None, None, None)
        end(self._process, self._mark)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(target: Target, photos: Sequence[Path], expected: Expected, log: Path) -> Served:
    """A server that was started, in the second or third attempt if need be.

    Raises:
        ContestantError: as Served.
    """
    for _ in range(STARTS - 1):
        with contextlib.suppress(ContestantError):
            return Served(target, photos, expected, log)
    return Served(target, photos, expected, log)


def end(process: subprocess.Popen[bytes], mark: str, patience: float = 20.0) -> None:
    """Ask a server to end; whatever of it remains is killed."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    for left in processes.family(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


def filled(text: str, ports: Mapping[str, str]) -> str:
    """The text with the ports in their places."""
    for name, port in ports.items():
        text = text.replace("{" + name + "}", port)
    return text


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
