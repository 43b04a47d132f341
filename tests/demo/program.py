"""The demo program as people start it, and a forwarder to stand between it and Triton."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2

from tests.conftest import PROJECT

SAMPLES = sorted((PROJECT / "samples").glob("*.jpg"))
SLOW = b"slow"
INFER = "/inference.GRPCInferenceService/ModelInfer"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Forwarder(grpc.GenericRpcHandler):
    """A gRPC server that passes each call on to Triton, byte for byte, and keeps the images."""

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self.images: list[bytes] = []  # as they came in, in the order of the requests
        self.asked: list[dict[str, float]] = []  # their parameters
        self.hidden: set[str] = set()  # models that nobody is told of
        self.delay = 0.0  # seconds that each image waits
        self.passing = threading.Event()  # cleared: images that end with SLOW wait here
        self._channel = grpc.insecure_channel(url)
        self.passing.set()
        self.start()

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def close(self) -> None:
        self.passing.set()
        self.stop()
        self._channel.close()

    def keep(self, request: service_pb2.ModelInferRequest) -> None:
        image = request.raw_input_contents[0][4:]  # 4 bytes: its length
        self.images.append(image)
        self.asked.append({name: _value(it) for name, it in request.parameters.items()})
        time.sleep(self.delay)
        if image.endswith(SLOW):
            self.passing.wait(30)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            if details.method == INFER:
                self.keep(service_pb2.ModelInferRequest.FromString(request))
            elif any(name.encode() in request for name in self.hidden):
                return b""  # not ready, no configuration
            try:
                return self._channel.unary_unary(details.method)(request, timeout=30)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise  # not reached: abort raises

        return grpc.unary_unary_rpc_method_handler(forward)


def _value(parameter: service_pb2.InferParameter) -> float:
    return float(getattr(parameter, str(parameter.WhichOneof("parameter_choice"))))


class Program:
    """`python app.py` with these options; `address` once it has printed one.

    Args:
        options: of the program.
        checkout: where `make demo` starts it instead.
        variables: of the environment, besides those that are set.
    """

    def __init__(self, *options: str, checkout: Path | None = None, **variables: str) -> None:
        self.port = free_port()
        options = ("--port", str(self.port), *options)
        command = [sys.executable, "app.py", *options]
        if checkout:
            command = ["make", "--no-print-directory", "demo", f"OPTIONS={shlex.join(options)}"]
        self.process = subprocess.Popen(
            command,
            cwd=checkout or PROJECT,
            env=os.environ | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.printed = ""

    @property
    def address(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.printed += line
            if found := re.search(r"Demo: (\S+)", line):
                return found[1]
        raise AssertionError(f"app.py printed no address, but: {self.printed}")

    def stop(self) -> int:
        """Exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.printed += self.process.communicate(timeout=30)[0]
        return self.process.returncode
