"""Unary gRPC calls over a plain socket: a third of the CPU that gRPC's Python library takes.

Only what a load generator needs: one connection, requests that were serialised before, of each
answer its message and its status. The frames are HTTP/2's (RFC 9113), what is in them is told in
gRPC's "gRPC over HTTP2". The server is asked for headers without a compression table, so a status
can be read without HPACK (RFC 7541). gRPC's C core, and so Triton, writes its name as it is, Envoy
in Huffman's code; a status of one or two digits is in neither case shorter in that code.
"""

import select
import socket
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import grpc

from benchmarks.load.transport import Answer, clock

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
TABLE_SIZE, PUSH, INITIAL_WINDOW, FRAME_SIZE = 1, 2, 4, 5  # names in SETTINGS
LARGEST_WINDOW = 2**31 - 1
FIRST_WINDOW = 2**16 - 1  # before anybody says otherwise
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# The name and its length, as they stand in a header block: plain, and in Huffman's code.
STATUS = (b"\x0bgrpc-status", bytes.fromhex("889acac8b21234da8f"))
STATUS_NAMES = {str(code.value[0]): code.name for code in grpc.StatusCode}


class Stream:
    """One call under way."""

    def __init__(self, number: int, began: float, content: bytes, window: int) -> None:
        self.number = number  # which photo
        self.began = began
        self.unsent = memoryview(content)
        self.window = window  # bytes that the server takes at once
        self.body = bytearray()


class Http2:
    """One connection for calls of one method, a Transport.

    Args:
        address: host:port.
        method: such as /inference.GRPCInferenceService/ModelInfer.
        bodies: the serialised request of each photo.
        metadata: further headers of each call, names in lower case.
    """

    def __init__(
        self,
        address: str,
        method: str,
        bodies: Sequence[bytes],
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._messages = [struct.pack(">BI", 0, len(body)) + body for body in bodies]
        self._head = _header_block(address, method, metadata)
        self._streams: dict[int, Stream] = {}
        self._next_stream = 1
        self._window = FIRST_WINDOW  # bytes that the server takes at once, on all streams
        self._stream_window = FIRST_WINDOW
        self._frame_size = 2**14
        self._received = b""
        self._unacknowledged = 0
        self._socket.sendall(
            PREFACE
            + settings({TABLE_SIZE: 0, PUSH: 0, INITIAL_WINDOW: LARGEST_WINDOW})
            + _window_update(LARGEST_WINDOW - FIRST_WINDOW)
        )

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, number: int, began: float) -> None:
        """Send the request of photo `number`, as far as the server takes it."""
        identity = self._next_stream
        self._next_stream += 2
        stream = Stream(number, began, self._messages[number], self._stream_window)
        self._streams[identity] = stream
        head = frame(HEADERS, END_HEADERS, identity, self._head)
        try:
            self._socket.sendall(head + self._data(identity, stream))
        except ConnectionError:  # the server closed it; `wait` will see that
            return

    def wait(self, seconds: float) -> list[Answer]:
        """What came of the calls that ended."""
        if not select.select([self._socket], [], [], max(seconds, 0))[0]:
            return []
        try:
            piece = self._socket.recv(1 << 20)
        except ConnectionError:
            piece = b""
        if not piece:
            return [self._end(identity, "CLOSED") for identity in list(self._streams)]
        self._received += piece
        answers, replies, at = [], b"", 0
        while len(self._received) >= at + 9:
            high, low, kind, flags, identity = struct.unpack_from(">BHBBI", self._received, at)
            end = at + 9 + (high << 16 | low)
            if len(self._received) < end:
                break
            payload = self._received[at + 9 : end]
            at = end
            if kind == HEADERS and flags & END_STREAM:
                answers.append(self._end(identity, _status_in(payload)))
            elif kind == RST_STREAM and identity in self._streams:
                answers.append(self._end(identity, "RESET"))
            else:
                replies += self._take(kind, flags, identity, payload)
        self._received = self._received[at:]
        if replies:
            self._socket.sendall(replies)
        return answers

    def _take(self, kind: int, flags: int, identity: int, payload: bytes) -> bytes:
        """What a frame that ends no call means; returns what is to be answered."""
        if kind == DATA and identity in self._streams:
            self._streams[identity].body += payload
            self._unacknowledged += len(payload)
            if self._unacknowledged > LARGEST_WINDOW // 2:
                count, self._unacknowledged = self._unacknowledged, 0
                return _window_update(count)
        elif kind == SETTINGS and not flags & ACK:
            self._adapt(payload)
            return frame(SETTINGS, ACK, 0) + self._unsent()
        elif kind == PING and not flags & ACK:
            return frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            (count,) = struct.unpack(">I", payload)
            if identity == 0:
                self._window += count
            elif identity in self._streams:
                self._streams[identity].window += count
            return self._unsent()
        return b""

    def _adapt(self, payload: bytes) -> None:
        """The server's settings; a new initial window holds for calls under way as well."""
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif name == FRAME_SIZE:
                self._frame_size = value

    def _unsent(self) -> bytes:
        """Frames of what waited for the server to take it."""
        waiting = ((i, stream) for i, stream in self._streams.items() if stream.unsent)
        return b"".join(self._data(identity, stream) for identity, stream in waiting)

    def _data(self, identity: int, stream: Stream) -> bytes:
        """Frames of as much of a request as the server takes now."""
        frames = b""
        while stream.unsent:
            room = min(self._window, stream.window, self._frame_size)
            if room <= 0:
                break
            part, stream.unsent = stream.unsent[:room], stream.unsent[room:]
            self._window -= len(part)
            stream.window -= len(part)
            frames += frame(DATA, 0 if stream.unsent else END_STREAM, identity, part)
        return frames

    def _end(self, identity: int, status: str) -> Answer:
        """Forget a call and give what came of it; its message follows five bytes of length."""
        stream = self._streams.pop(identity)
        return Answer(stream.number, stream.began, clock(), status, bytes(stream.body[5:]))


def frame(kind: int, flags: int, identity: int, payload: bytes | memoryview = b"") -> bytes:
    """RFC 9113, section 4.1."""
    length = len(payload)
    return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, identity) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(struct.pack(">HI", name, value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def _window_update(count: int) -> bytes:
    """So many more bytes are taken on all streams together."""
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", count))


def _header_block(address: str, method: str, metadata: Mapping[str, str]) -> bytes:
    """A call's headers as literals: RFC 7541, section 6.2.2, no Huffman code."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        **metadata,
    }
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields.items())


def text(value: str) -> bytes:
    """A string of fewer than 127 bytes in a header block."""
    return bytes([len(value)]) + value.encode()


def _status_in(block: bytes) -> str:
    """The name of the gRPC status in a call's last headers."""
    name = next((name for name in STATUS if name in block), None)
    if name is None:
        return "NO_STATUS"
    start = block.find(name) + len(name) + 1
    length = block[start - 1]
    code = block[start : start + length].decode(errors="replace")
    return STATUS_NAMES.get(code, f"STATUS_{code}")
