import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from client.doctor.listener import listener
from serving.server.server import EmbeddedServer


def of(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition(":")
    return host, int(port)


def test_each_port_of_a_real_server(server: EmbeddedServer) -> None:
    urls = (server.grpc_url, server.http_url, server.metrics_url)
    assert [listener(*of(url)) for url in urls] == ["grpc", "http", "metrics"]


def test_nothing_listens(nowhere: str) -> None:
    assert listener(*of(nowhere)) == "nothing"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64])
def test_a_name_that_nobody_has(host: str) -> None:
    assert listener(host, 8001) == "unresolved"


def test_a_listener_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        assert listener("127.0.0.1", hung.getsockname()[1], seconds=0.2) == "silent"


@pytest.fixture
def chatterbox() -> Iterator[int]:
    """A port where each connection is greeted in a protocol of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with closing(connection):
                    connection.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_another_protocol(chatterbox: int) -> None:
    assert listener("127.0.0.1", chatterbox, seconds=1) == "other"


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_another_web_server() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        assert listener("127.0.0.1", web.server_port) == "web"
        web.shutdown()
        thread.join()
