"""HTTP/1.1 over real connections to a tiny server."""

import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.load.http1 import Http, http_request, parse_http
from benchmarks.load.transport import clock
from tests.benchmarks.load.conftest import gather


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", ("OK", b"ab")),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", ("503", b"")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            ("OK", b"abc"),
        ),
    ],
)
def test_http_answers_are_parsed(received: bytes, expected: tuple[str, bytes] | None) -> None:
    assert parse_http(received) == expected


class Echo(socketserver.StreamRequestHandler):
    """HTTP that answers with the body's length, in two pieces; "hang up" ends the connection."""

    def handle(self) -> None:
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = self.rfile.read(length)
            if body == b"hang up":
                return
            status = b"503 Busy" if body == b"busy" else b"200 OK"
            text = str(length).encode()
            self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n" % (status, len(text)))
            time.sleep(0.001)
            self.wfile.write(b"\r\n" + text)


@pytest.fixture(scope="module")
def http_server() -> Iterator[tuple[str, int]]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()
        thread.join()


def test_http_over_real_connections(http_server: tuple[str, int]) -> None:
    photos = [b"x" * 10, b"x" * 100_000, b"busy", b"hang up"]
    requests = [http_request(photo, "/detect", "image/jpeg") for photo in photos]
    transport = Http(*http_server, requests)
    for number in range(4):
        transport.send(number, clock())
    found = [(answer.status, answer.body) for answer in gather(transport, 4)]
    assert found == [("OK", b"10"), ("OK", b"100000"), ("503", b"4"), ("CLOSED", b"")]
    transport.send(0, clock())  # the connections go on
    assert gather(transport, 1)[0].body == b"10"
    transport.send(3, clock())  # ends a used one: sent again, on a new one, which ends too
    assert gather(transport, 1)[0].status == "CLOSED"
    transport.close()


def test_a_form_carries_the_photo() -> None:
    request = http_request(b"JPEG", "/detect", "", field="file")
    head, body = request.split(b"\r\n\r\n", 1)
    assert b"multipart/form-data; boundary=cut" in head
    assert b"Content-Length: %d" % len(body) in head
    assert b'name="file"' in body
    assert b"\r\n\r\nJPEG\r\n--cut--\r\n" in body
