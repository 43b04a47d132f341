"""`python -m training` with the tiny network, each command in a fork: TensorFlow starts once.

Listens in the current folder; CLIENT is the program that stands in for `python -m training` there.
"""

import importlib
import json
import os
import socket
import sys

from tests.training.tiny_training import make_tiny
from training.__main__ import COMMANDS, main

ADDRESS = "trainer.socket"
CLIENT = f"""
import json, socket, sys
with socket.socket(socket.AF_UNIX) as trainer:
    trainer.connect({ADDRESS!r})
    socket.send_fds(trainer, [json.dumps(sys.argv[1:]).encode()], [1, 2])
    sys.exit(int(trainer.recv(16) or 1))
"""


def serve() -> None:
    """Run one command after another, for ever."""
    make_tiny()
    for command in COMMANDS.values():
        importlib.import_module(f"training.{command.module}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(ADDRESS)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.send(str(_run_in_fork(connection)).encode())


def _run_in_fork(connection: socket.socket) -> int:
    arguments, outputs, _, _ = socket.recv_fds(connection, 2**16, 2)
    if not (child := os.fork()):
        os.dup2(outputs[0], 1)
        os.dup2(outputs[1], 2)
        code = main(json.loads(arguments))
        sys.stdout.flush()
        os._exit(code)
    for output in outputs:
        os.close(output)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    serve()
