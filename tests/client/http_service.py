"""A small HTTP server in this process that answers what a test wants."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.client.conftest import Tensors, answer_tensors, response_of


class HttpService:
    """Keeps the requests and lets `answer` write what it wants."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.clients: set[Any] = set()  # connections
        self.url = ""
        self.answer: Callable[[Handler], None] = lambda handler: handler.result(answer_tensors())


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    service: HttpService

    def do_POST(self) -> None:
        self.service.paths.append(self.path)
        self.service.clients.add(self.client_address)
        self.service.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.service.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.service.answer(self)

    do_GET = do_POST  # noqa: N815

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def result(self, tensors: Tensors) -> None:
        """Answer with tensors as Triton does."""
        head, body = message_of(tensors)
        self.reply(200, head + body, Inference_Header_Content_Length=str(len(head)))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def message_of(tensors: Tensors) -> tuple[bytes, bytes]:
    """Return the JSON and the tensors of an answer."""
    response = response_of(tensors)
    outputs = [
        {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
            "parameters": {"binary_data_size": len(data)},
        }
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    ]
    head = {"model_name": "ensemble", "outputs": outputs}
    return json.dumps(head).encode(), b"".join(response.raw_output_contents)


def trickle(handler: Handler) -> None:
    """Write an endless header, a byte at a time."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.01)
    except OSError:  # the client has closed the connection
        handler.close_connection = True


def slowly(handler: Handler) -> None:
    """Write an endless body, a byte at a time."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.01)
    except OSError:
        handler.close_connection = True


@contextmanager
def serve_http() -> Iterator[HttpService]:
    """Start a service that finds nothing in any image, until a test says otherwise."""
    service = HttpService()
    handler = type("Handler", (Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True  # those of connections that are kept end with their clients
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
