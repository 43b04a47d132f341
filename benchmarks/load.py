"""Load generators: the project's own, one process, cheap because it shares the cores it loads.

Transports with one interface, `send` a photo's request and `wait` for answers: HTTP/1.1 over plain
sockets, one request at a time on each connection, and gRPC, over a plain socket too or through its
library. Requests are serialised before. Two loops over any of them: `closed_loop` keeps a number of
requests under way, `open_loop` sends at given times whatever has been answered by then, and counts
latency from the time a request was meant to go out. So a server, or a generator, that falls behind
cannot hide it.

As a worker (benchmarks/line.py): the first line describes the target (see `make`), each further one
is {"concurrency": c, "seconds": s, "ramp": r}, or with "requests": n instead of seconds, or
{"rate": photos a second, "seconds": s, "poisson": true}.
"""

import gc
import itertools
import json
import math
import queue
import random
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grpc
from tritonclient.grpc import service_pb2

from benchmarks import http2, line
from serving.tuning.load_generator import METHOD, serialise

PATIENCE = 120.0  # seconds without any answer until a generator gives up
SAMPLE = 20  # every so many answers one is read and compared with what it should be
TOLERANCE = 0.01  # of the sum of a photo's scores
clock = time.perf_counter


class Answer(NamedTuple):
    """What came back for one request."""

    number: int  # which photo
    began: float  # clock, when it was sent, or meant to be
    ended: float
    status: str  # OK, or what went wrong
    body: bytes


class Transport(Protocol):
    """Carries requests to one server. One thread uses it."""

    def send(self, number: int, began: float) -> None:
        """Send the request of photo `number`, without waiting."""

    def wait(self, seconds: float) -> list[Answer]:
        """The answers that came since the last call; waits so long for the first of them."""

    def close(self) -> None:
        """End all connections."""


class Http2:
    """Unary gRPC calls over a plain socket: the cheap way. See benchmarks/http2.py.

    Args:
        address, method, bodies: as for `Grpc`.
    """

    def __init__(self, address: str, method: str, bodies: Sequence[bytes]) -> None:
        self._connection = http2.Connection(address, method, bodies)
        self.send = self._connection.send
        self.close = self._connection.close

    def wait(self, seconds: float) -> list[Answer]:
        return [Answer(*answer) for answer in self._connection.wait(seconds)]


class Grpc:
    """Unary gRPC calls with bytes in and bytes out, through gRPC's own library.

    Args:
        address: host:port.
        method: such as /inference.GRPCInferenceService/ModelInfer.
        bodies: the serialised request of each photo.
    """

    def __init__(self, address: str, method: str, bodies: Sequence[bytes]) -> None:
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._call = self._channel.unary_unary(method)
        self._bodies = bodies
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def send(self, number: int, began: float) -> None:
        def done(call: Any) -> None:  # in gRPC's thread
            ended = clock()
            code = call.code()
            if code is grpc.StatusCode.OK:
                self._answers.put(Answer(number, began, ended, "OK", call.result()))
            else:
                self._answers.put(Answer(number, began, ended, code.name, b""))

        self._call.future(self._bodies[number]).add_done_callback(done)

    def wait(self, seconds: float) -> list[Answer]:
        answers = []
        try:
            answers.append(self._answers.get(timeout=max(seconds, 0)))
            while True:
                answers.append(self._answers.get_nowait())
        except queue.Empty:
            return answers

    def close(self) -> None:
        self._channel.close()


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
        return (status, unchunk(body)) if body.endswith(b"\r\n0\r\n\r\n") else None
    length = int(head[place + 17 :].split(b"\r\n", 1)[0])
    return (status, body) if len(body) >= length else None


def unchunk(body: bytes) -> bytes:
    """RFC 9112, section 7.1: the content of a chunked body that has arrived in full."""
    content = b""
    while True:
        size, body = body.split(b"\r\n", 1)
        length = int(size.split(b";")[0], 16)
        if not length:
            return content
        content, body = content + body[:length], body[length + 2 :]


def read_triton(body: bytes) -> list[float]:
    """The scores in a ModelInferResponse, of rows that are real."""
    answer = service_pb2.ModelInferResponse.FromString(body)
    names = [output.name for output in answer.outputs]
    raw = dict(zip(names, answer.raw_output_contents, strict=True))
    name = "detection_scores" if "detection_scores" in raw else "scores"
    content = raw[name]
    scores = struct.unpack(f"<{len(content) // 4}f", content)
    count = struct.unpack("<i", raw["num_detections"])[0] if "num_detections" in raw else None
    return list(scores[:count])


def read_json(body: bytes) -> list[float]:
    """The scores in a peer's JSON: under "scores", on top or in a field of the top."""
    content = json.loads(body)
    if "scores" not in content:
        content = next(value for value in content.values() if "scores" in value)
    return list(content["scores"])


class Examiner:
    """Reads some of the answers and compares their scores with what they should be.

    Args:
        read: body to scores.
        expected: of each photo, how many detections and the sum of their scores; empty: every
            answer that can be read is right.
    """

    def __init__(
        self,
        read: Callable[[bytes], list[float]],
        expected: Sequence[tuple[int, float]],
        every: int = SAMPLE,
    ) -> None:
        self.read, self.expected, self.every = read, expected, every
        self._count = 0

    def verdict(self, answer: Answer) -> str:
        """OK, the status of a failed request, or WRONG."""
        self._count += 1
        if answer.status != "OK" or self._count % self.every:
            return answer.status
        scores = self.read(answer.body)
        if not self.expected:
            return "OK"
        count, total = self.expected[answer.number]
        right = len(scores) == count and abs(sum(scores) - total) < TOLERANCE
        return "OK" if right else "WRONG"


def closed_loop(
    transport: Transport,
    turn: Iterator[int],
    examine: Callable[[Answer], str],
    concurrency: int,
    seconds: float,
    ramp: float,
) -> dict[str, Any]:
    """Keep `concurrency` requests under way; count answers that come in `seconds` after `ramp`.

    Counting in a window, not from the first request to the last answer, keeps the begin and the
    end, when fewer are under way, out of the throughput. It ends earlier where `turn` does.

    Returns:
        completed, seconds, latencies in ms of the answers counted; how many of all answers came to
        which end; of the whole call the mean latency, CPU seconds of this process and answers.
    """
    transport.wait(0)  # sees which connections the server closed meanwhile
    cpu = time.process_time()
    counted: list[Answer] = []
    all_ms: list[float] = []
    verdicts: Counter[str] = Counter()
    start = clock() + ramp
    end = start + seconds
    under_way = sum(send_next(transport, turn) for _ in range(concurrency))
    while under_way:
        answers = wait(transport, under_way)
        for answer in answers:
            if clock() >= end or not send_next(transport, turn):
                under_way -= 1
            if start <= answer.ended < end:
                counted.append(answer)
            all_ms.append(1000 * (answer.ended - answer.began))
        verdicts.update(examine(answer) for answer in answers)
    return outcome(counted, verdicts, min(seconds, clock() - start), cpu) | {
        "all_ms": sum(all_ms) / max(1, len(all_ms))
    }


def send_next(transport: Transport, turn: Iterator[int]) -> bool:
    """Send the photo whose turn it is; False where there is none."""
    number = next(turn, None)
    if number is not None:
        transport.send(number, clock())
    return number is not None


def open_loop(
    transport: Transport,
    turn: Iterator[int],
    examine: Callable[[Answer], str],
    times: Sequence[float],
) -> dict[str, Any]:
    """Send one request at each of the times (seconds from now), answered or not.

    Returns:
        As `closed_loop`, counted are all answers, their latency is from the time a request was
        meant to go out; `lateness_ms`: by how much later each did go out; `sent`: how many a
        second.
    """
    transport.wait(0)
    cpu = time.process_time()
    began = clock()
    answers: list[Answer] = []
    lateness = []
    for offset in times:
        due = began + offset
        while (left := due - clock()) > 0:
            answers += transport.wait(left)
        transport.send(next(turn), due)
        lateness.append(1000 * (clock() - due))
    while len(answers) < len(times):
        answers += wait(transport, len(times) - len(answers))
    ended = max((answer.ended for answer in answers), default=began)
    good = [answer for answer in answers if answer.status == "OK"]
    verdicts = Counter(examine(answer) for answer in answers)
    sent = len(times) / times[-1] if times and times[-1] else 0.0
    return outcome(good, verdicts, ended - began, cpu) | {"lateness_ms": lateness, "sent": sent}


def wait(transport: Transport, under_way: int) -> list[Answer]:
    """At least one answer, while requests are under way."""
    deadline = clock() + PATIENCE
    while (left := deadline - clock()) > 0:
        if answers := transport.wait(left):  # none: a part of one came
            return answers
    raise TimeoutError(f"no answer in {PATIENCE:.0f} s, {under_way} requests are under way")


def outcome(
    counted: Sequence[Answer], verdicts: Counter[str], seconds: float, cpu: float
) -> dict[str, Any]:
    return {
        "completed": sum(answer.status == "OK" for answer in counted),
        "seconds": seconds,
        "latencies_ms": [1000 * (a.ended - a.began) for a in counted if a.status == "OK"],
        "verdicts": dict(verdicts),
        "cpu": time.process_time() - cpu,
        "total": sum(verdicts.values()),
    }


def arrivals(rate: float, seconds: float, poisson: bool, seed: int = 0) -> list[float]:
    """When requests are to go out: evenly, or as independent users come (a Poisson process)."""
    if not poisson:
        return [number / rate for number in range(int(rate * seconds))]
    chance = random.Random(seed)
    gaps = iter(lambda: chance.expovariate(rate), None)
    return list(itertools.takewhile(lambda time: time < seconds, itertools.accumulate(gaps)))


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


def transport_of(setup: dict[str, Any], photos: Sequence[bytes]) -> Transport:
    """The transport that the setup names."""
    if setup["protocol"] == "grpc":
        bodies = [serialise(photo, setup["model"], setup["tensor"]) for photo in photos]
        kind = Grpc if setup.get("library") else Http2
        return kind(setup["address"], METHOD, bodies)
    host, port = setup["address"].split(":")
    content_type, field = setup.get("content_type", "image/jpeg"), setup.get("field", "")
    requests = [http_request(photo, setup["path"], content_type, field) for photo in photos]
    return Http(host, int(port), requests)


def make(setup: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A generator for a target.

    Args:
        setup: protocol (grpc or http), address, photos (paths), expected (see Examiner); for gRPC
            model, tensor, and library if gRPC's own is to be used; for HTTP path, content_type,
            field.
    """
    photos = [Path(path).read_bytes() for path in setup["photos"]]
    transport = transport_of(setup, photos)
    read = read_triton if setup["protocol"] == "grpc" else read_json
    examiner = Examiner(read, setup.get("expected", []))
    turn = itertools.cycle(range(len(photos)))
    seeds = itertools.count()
    gc.freeze()
    gc.disable()

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        gc.collect()
        examiner.every = command.get("sample", SAMPLE)
        if "rate" in command:
            times = arrivals(
                command["rate"], command["seconds"], command.get("poisson", True), next(seeds)
            )
            return open_loop(transport, turn, examiner.verdict, times)
        part = itertools.islice(turn, command["requests"]) if "requests" in command else turn
        return closed_loop(
            transport,
            part,
            examiner.verdict,
            command["concurrency"],
            command.get("seconds", math.inf),
            command.get("ramp", 0.0 if "requests" in command else 0.2),
        )

    return answer


if __name__ == "__main__":
    line.serve(make)
