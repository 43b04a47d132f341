"""HTTP/1.1 over plain sockets, one request at a time on each connection."""

import selectors
import socket
from collections.abc import Sequence

from benchmarks.load.transport import Answer, clock


class Connection:
    """One HTTP connection and what has arrived of its answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.number = -1
        self.began = 0.0
        self.used = False  # for an answer before this one


class Http:
    """HTTP/1.1 with kept connections, as many as there were ever requests under way at once.

    Args:
        host, port: where.
        requests: each photo's whole request, head and body.
    """

    def __init__(self, host: str, port: int, requests: Sequence[bytes]) -> None:
        self._address = (host, port)
        self._requests = requests
        self._free: list[Connection] = []
        self._ready = selectors.DefaultSelector()

    def send(self, number: int, began: float) -> None:
        connection = self._free.pop() if self._free else self._connect()
        connection.number, connection.began = number, began
        try:
            connection.socket.sendall(self._requests[number])
        except ConnectionError:  # the server closed it meanwhile; `wait` will see that
            return

    def wait(self, seconds: float) -> list[Answer]:
        answers = []
        for key, _ in self._ready.select(max(seconds, 0)):
            answer = self._read(key.data)
            if answer:
                answers.append(answer)
        return answers

    def close(self) -> None:
        for key in list(self._ready.get_map().values()):
            self._drop(key.data)
        self._ready.close()

    def _connect(self) -> Connection:
        connection = Connection(self._address)
        self._ready.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def _read(self, connection: Connection) -> Answer | None:
        """What the connection holds, once it is a whole answer."""
        try:
            piece = connection.socket.recv(1 << 18)
        except ConnectionError:
            piece = b""
        connection.received += piece
        parsed = parse_http(connection.received)
        if piece and not parsed:
            return None
        if not piece:
            self._drop(connection)
            if connection.number < 0:
                return None  # an idle connection ended
            if connection.used and not connection.received:
                # It ended just as it was used again: RFC 9112, section 9.3.1, send it once more.
                self.send(connection.number, connection.began)
                return None
        else:
            self._free.append(connection)
        status, body = parsed or ("CLOSED", b"")
        answer = Answer(connection.number, connection.began, clock(), status, body)
        connection.received, connection.number, connection.used = b"", -1, True
        return answer

    def _drop(self, connection: Connection) -> None:
        self._ready.unregister(connection.socket)
        connection.socket.close()
        if connection in self._free:
            self._free.remove(connection)


def parse_http(received: bytes) -> tuple[str, bytes] | None:
    """Status (OK for 200, else the number) and body, None until all of it has arrived."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, body = received[:end], received[end + 4 :]
    code = head[9:12]
    status = "OK" if code == b"200" else code.decode()
    place = head.lower().find(b"\r\ncontent-length:")
    if place < 0:
        return (status, _unchunk(body)) if body.endswith(b"\r\n0\r\n\r\n") else None
    length = int(head[place + 17 :].split(b"\r\n", 1)[0])
    return (status, body) if len(body) >= length else None


def _unchunk(body: bytes) -> bytes:
    """RFC 9112, section 7.1: the content of a chunked body that has arrived in full."""
    content = b""
    while True:
        size, body = body.split(b"\r\n", 1)
        length = int(size.split(b";")[0], 16)
        if not length:
            return content
        content, body = content + body[:length], body[length + 2 :]


def http_request(photo: bytes, path: str, content_type: str, field: str = "") -> bytes:
    """A whole POST request: the photo as the body, or as the file in a form's field."""
    body = photo
    if field:
        disposition = f'form-data; name="{field}"; filename="photo.jpg"'
        part = f"--cut\r\nContent-Disposition: {disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
        body = part.encode() + photo + b"\r\n--cut--\r\n"
        content_type = "multipart/form-data; boundary=cut"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
