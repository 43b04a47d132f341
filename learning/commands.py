"""Runs the other folders' commands, which end when this process ends."""

import ctypes
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learning.errors import LearningError

PR_SET_PDEATHSIG = 1
PROMPT = "$ python -m "


def run_command(command: Sequence[str], log: Path, hours: float | None = None) -> int:
    """Run `python -m COMMAND`, show what it prints and add it to the log. Returns the exit code.

    Args:
        command: its words.
        log: the file.
        hours: after which it is interrupted, as by Ctrl-C; None: it takes as long as it likes.
    """
    with log.open("a", encoding="utf-8") as file, _start(command, subprocess.STDOUT) as process:
        file.write(f"{PROMPT}{shlex.join(command)}\n")
        over = threading.Timer(3600 * (hours or 0), process.send_signal, [signal.SIGINT])
        if hours is not None:
            over.start()
        for line in process.stdout or ():
            print(line, end="", flush=True)
            file.write(line)
            file.flush()
        over.cancel()
        if hours is not None:
            over.join()  # a thread, and the next command is started by a fork
    return process.returncode


def ask_command(command: Sequence[str]) -> Any:
    """What `python -m COMMAND` prints as JSON.

    Raises:
        LearningError: it fails, with what it says.
    """
    with _start(command, subprocess.PIPE) as process:
        told, errors = process.communicate()
    if process.returncode:
        raise LearningError(f"{shlex.join(command)}: {errors.strip().removeprefix('error: ')}")
    return json.loads(told)


def _start(command: Sequence[str], errors: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        preexec_fn=_end_with_parent,  # this process has one thread
    )


def _end_with_parent() -> None:
    """A training that outlived a killed loop would write beside that of the next one."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
