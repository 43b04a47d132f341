"""One tritonserver process and the stub processes of its Python models."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LAUNCHER = Path(__file__).parent / "launch.py"
PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")  # a second's, in which the kernel counts CPU time
STUB_PROGRAM = b"triton_python_backend_stub"
KILL_SECONDS = 2.0  # at most, until processes that were killed are gone
SERVER = "tritonserver"  # its own process, among those of stubs
REGION, INSTANCE = 2, 8  # positions among a stub's arguments


@dataclass(frozen=True)
class Stub:
    """A living process that runs one instance of a Python model."""

    pid: int
    region: str  # name of its file in /dev/shm
    instance: str  # model, group and number, for example ssd_0_1

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return read_stub(self.pid) == self

    def model(self, models: Iterable[str]) -> str | None:
        """Which of the models it runs: the longest name that begins the instance's."""
        fitting = [name for name in models if self.instance.startswith(f"{name}_")]
        return max(fitting, key=len, default=None)

    def cpu(self) -> float:
        """Seconds of a core that it has used."""
        return _read_state(self.pid)[1]

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.is_alive():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


class TritonProcess:
    """A running tritonserver. It ends with the thread that created this object.

    Args:
        command: the program and its arguments.
        environment: its whole environment.
        prefix: of its stubs' shared memory; by it they are found.
        log: takes what it prints; None: this process's own output.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        prefix: str,
        log: IO[bytes] | None,
    ) -> None:
        self._prefix = prefix
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid())]
        self._stubs: list[Stub] = []
        self.ended: dict[str, str] = {}  # why `end` ended what, by the name that `stopped` gives
        self._process = subprocess.Popen(
            [*launcher, *command],
            env=dict(environment),
            stdin=subprocess.PIPE,  # never written to; its end ends the stubs: stub_start.py
            stdout=log or sys.stderr,
            stderr=log,
            start_new_session=True,  # Ctrl-C is ours to handle: it must not skip the drain
        )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def stubs(self) -> list[Stub]:
        """Look which stubs live, and remember them."""
        self._stubs = find_stubs(self._prefix)
        return list(self._stubs)

    def dead_stubs(self) -> list[Stub]:
        """Those of the remembered stubs that have ended since."""
        return [stub for stub in self._stubs if not stub.is_alive()]

    def fallen(self) -> dict[int, int]:
        """Exit codes, by process id, of its children that ended while it did not expect that."""
        return _find_zombies(self.pid)

    def stopped(self) -> dict[int, str]:
        """What somebody has stopped (SIGSTOP): its name by process id. Load never looks like it."""
        names = {self.pid: SERVER} | {stub.pid: stub.instance for stub in self._stubs}
        return {pid: name for pid, name in names.items() if _read_state(pid)[0] == "T"}

    def cpu(self) -> float:
        """Seconds of a core that the server itself has used, without its stubs."""
        return _read_state(self.pid)[1]

    def end(self, pid: int, name: str, why: str) -> None:
        """End the server or a stub at once; `ended` tells why, until somebody has asked."""
        self.ended[name] = why
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def why_ended(self, model: str) -> str:
        """Why `end` ended the processes of a model; empty where they died by themselves."""
        own = [name for name in self.ended if name.startswith(f"{model}_")]
        return "".join([self.ended.pop(name) for name in own][:1])

    def stop(self, grace: float) -> None:
        """Ask the server to end, insist after `grace` seconds, and end stubs that outlive it."""
        self._process.terminate()
        for insist in (self._process.kill, lambda: None):
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                insist()
        assert self._process.stdin  # for mypy: it is a pipe
        self._process.stdin.close()
        stubs = self.stubs()
        for stub in stubs:  # orphans would hold the server's ports
            stub.kill()
        deadline = time.monotonic() + KILL_SECONDS
        while any(stub.is_alive() for stub in stubs) and time.monotonic() < deadline:
            time.sleep(0.01)


def _find_zombies(parent: int) -> dict[int, int]:
    """Exit codes of the ended children that a process has not asked after, by process id."""
    found = {}
    for path in PROC.glob("[0-9]*/stat"):
        try:
            # From the third field of proc(5) on.
            fields = path.read_text(errors="replace").rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        if fields[0] == "Z" and int(fields[1]) == parent:
            found[int(path.parent.name)] = os.waitstatus_to_exitcode(int(fields[49]))
    return found


def find_stubs(prefix: str) -> list[Stub]:
    """The living stubs whose shared memory has this prefix, orphans included."""
    pids = (int(path.name) for path in PROC.iterdir() if path.name.isdecimal())
    found = (read_stub(pid) for pid in pids)
    return [stub for stub in found if stub and stub.region.startswith(prefix)]


def _read_state(pid: int) -> tuple[str, float]:
    """A process' state, "R" and the like, and the seconds of a core it has used."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) / TICKS


def read_stub(pid: int) -> Stub | None:
    """The stub with this process id, None if it is dead or something else."""
    try:
        arguments = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if len(arguments) <= INSTANCE or not arguments[0].endswith(STUB_PROGRAM):
        return None  # a zombie has no arguments
    return Stub(pid, arguments[REGION].decode(), arguments[INSTANCE].decode())


def describe_exit(code: int) -> str:
    """What an exit code of a process says, for a sentence."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
