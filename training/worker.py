"""One worker of several: make TF_CONFIG of a Job's index, wait for the others' names, and start.

Kubernetes numbers the pods of an Indexed Job (JOB_COMPLETION_INDEX), and a headless Service gives
each a name that holds the number. All workers run the same command:

    python -m training.worker --workers 2 --address 'train-{index}.train:2222' -- \\
        python -m training train records --output runs/mine

The command takes this process' place. Exit code 2: it cannot be started as asked, and trying again
would not help; 75 (EX_TEMPFAIL): a name is not known yet, so try again. Standard library only.
"""

import argparse
import json
import os
import socket
import sys
import time

INDEX = "JOB_COMPLETION_INDEX"


def make_config(workers: int, address: str, index: str) -> str:
    """TF_CONFIG of one worker; of those that it names, worker 0 writes the run folder.

    Raises:
        ValueError: these do not make a cluster.
    """
    name, _, port = address.replace("{index}", "0").rpartition(":")
    if not name or not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"--address must be HOST:PORT with {{index}} in it, got {address!r}")
    addresses = [address.replace("{index}", str(i)) for i in range(workers)]
    if len(set(addresses)) != workers or not workers:
        raise ValueError(
            f"--workers is {workers} and --address {address!r}: there must be 1 or more, and "
            "{index} must tell one worker's address from another's"
        )
    if not (index.isdecimal() and int(index) < workers):
        raise ValueError(
            f"{INDEX} in the environment must be 0 to {workers - 1}, got {index!r}: a Job with "
            "completionMode Indexed sets it, and its completions and parallelism must be --workers"
        )
    task = {"type": "worker", "index": int(index)}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def _wait_for_names(addresses: list[str], seconds: float) -> None:
    """Wait until each host has an address.

    Raises:
        TimeoutError: one has none after so many seconds.
    """
    deadline = time.monotonic() + seconds
    unknown = [address.rpartition(":")[0] for address in addresses]
    while unknown := [host for host in unknown if not _is_known(host)]:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"no address is known of {', '.join(unknown)} after {seconds:g} s: are all pods "
                "started, and is the headless Service named as the pods' subdomain?"
            )
        time.sleep(1)


def _is_known(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def main() -> int:
    """Parse, wait, and become the command."""
    parser = argparse.ArgumentParser(prog="python -m training.worker", description="Start a worker")
    parser.add_argument("--workers", type=int, required=True, help="how many there are")
    parser.add_argument("--address", required=True, help="HOST:PORT of a worker, with {index}")
    parser.add_argument("--seconds", type=float, default=600.0, help="to wait for the names")
    parser.add_argument("command", nargs="+", help="what each worker runs")
    arguments = parser.parse_args()
    try:
        config = make_config(arguments.workers, arguments.address, os.environ.get(INDEX, ""))
        _wait_for_names(json.loads(config)["cluster"]["worker"], arguments.seconds)
        os.execvpe(arguments.command[0], arguments.command, os.environ | {"TF_CONFIG": config})
    except TimeoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return os.EX_TEMPFAIL
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {arguments.command[0]} cannot be run: {error.strerror}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
