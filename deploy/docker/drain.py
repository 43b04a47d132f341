"""Ends the service of a Triton that is about to be stopped.

Exit code 0: nothing is under way any more, 1: something is, or the server does not say, 2: wrong
usage. Triton itself, once told to end, refuses the next step of each request that is inside an
ensemble. So first clients get time to learn that this server is leaving, and are served meanwhile.
Then the ensembles are unloaded: they refuse new requests, which the gateway asks of another server,
finish the old ones, and only then count as unloaded. Standard library only; Kubernetes runs it
before it sends SIGTERM.

    python3 drain.py [HOST:PORT] [--wait 5] [--seconds 30]

The admin key is that of serve.sh: TRITON_ADMIN_KEY, or the file TRITON_ADMIN_KEY_FILE.
"""

import argparse
import json
import os
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 5.0


class DrainError(Exception):
    """The server did not answer as it should; the message says what it did."""


def ask(address: str, method: str, path: str, key: str) -> Any:
    """The server's answer, parsed.

    Raises:
        DrainError: it refuses.
    """
    connection = HTTPConnection(address, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, headers={"admin-key": key})
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    finally:
        connection.close()
    if response.status != 200:
        raise DrainError(f"status {response.status}: {text[:200]}")
    return json.loads(text) if text else None


def models(address: str, key: str, *states: str) -> set[str]:
    """The names of the models that are in one of these states."""
    index = ask(address, "POST", "/v2/repository/index", key)
    return {model["name"] for model in index if model.get("state") in states}


def drain(address: str, key: str, deadline: float) -> None:
    """Unload the ensembles, and wait until they have answered all that they had.

    Raises:
        DrainError: they have not by then, in the clock's seconds.
    """
    ensembles = {
        name
        for name in models(address, key, "READY")
        if ask(address, "GET", f"/v2/models/{name}/config", key).get("platform") == "ensemble"
    }
    for name in ensembles:
        ask(address, "POST", f"/v2/repository/models/{name}/unload", key)
    while left := ensembles & models(address, key, "READY", "UNLOADING"):
        if time.monotonic() > deadline:
            raise DrainError(f"{', '.join(sorted(left))} still had requests under way")
        time.sleep(0.1)


def read_key() -> str:
    """The admin key, as serve.sh takes it."""
    file = os.environ.get("TRITON_ADMIN_KEY_FILE", "")
    return os.environ.get("TRITON_ADMIN_KEY") or (Path(file).read_text().strip() if file else "")


def main() -> int:
    """Parse, wait, drain, and say in one line what came of it."""
    parser = argparse.ArgumentParser(description="End the service of a Triton.")
    parser.add_argument("address", nargs="?", default="127.0.0.1:8000", help="Triton's HTTP port")
    parser.add_argument("--wait", type=float, default=5.0, help="seconds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="as long as this at most")
    arguments = parser.parse_args()
    time.sleep(arguments.wait)
    started = time.monotonic()
    try:
        drain(arguments.address, read_key(), started + arguments.seconds)
    except (DrainError, OSError, HTTPException, ValueError) as error:
        print(f"not drained: {arguments.address}: {error}")
        return 1
    print(f"drained: all was answered after {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
