"""What a module's tests share: two real servers behind a real Envoy, and a server that keeps what
it is asked."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from serving.fleet.configuration import Address
from serving.fleet.fleet import Fleet, FleetSettings
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    settings = FleetSettings(port=0, repository=str(PROJECT / "model_repository"))
    with Fleet(settings) as running:
        yield running


class Recorder(ThreadingHTTPServer):
    """A server behind the gateway: it finds its check well, and keeps what else it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = Address("127.0.0.1", self.server_address[1])
        self.asked: list[tuple[str, dict[str, str]]] = []  # "GET /path" and the headers


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers["user-agent"] != "Envoy/HC":
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.asked.append((f"{self.command} {self.path}", headers))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
