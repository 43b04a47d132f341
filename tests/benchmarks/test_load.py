"""The load generators: what they count, and over real connections to tiny servers."""

import itertools
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from benchmarks import load
from benchmarks.load import Answer, Examiner, Grpc, Http, Http2, closed_loop, open_loop

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def ok(answer: Answer) -> str:
    return answer.status


class Slow:
    """A transport over a server that answers one request after the other, `pause` seconds each."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.waiting: list[tuple[int, float]] = []
        self.most = 0

    def send(self, number: int, began: float) -> None:
        self.waiting.append((number, began))
        self.most = max(self.most, len(self.waiting))

    def wait(self, seconds: float) -> list[Answer]:
        if not self.waiting or seconds < self.pause:
            time.sleep(min(max(seconds, 0), 0.001))
            return []
        time.sleep(self.pause)
        number, began = self.waiting.pop(0)
        return [Answer(number, began, load.clock(), "OK", b"")]

    def close(self) -> None:
        self.waiting.clear()


class Stuck(Slow):
    """Its very sending takes long: the generator itself falls behind."""

    def send(self, number: int, began: float) -> None:
        time.sleep(0.05)
        super().send(number, began)


def test_closed_loop_keeps_as_many_under_way_as_asked() -> None:
    transport = Slow(0.002)
    found = closed_loop(transport, itertools.count(), ok, 3, seconds=0.1, ramp=0.05)
    assert transport.most == 3
    assert not transport.waiting
    assert found["completed"] == len(found["latencies_ms"]) < found["total"]
    assert found["verdicts"] == {"OK": found["total"]}


def test_closed_loop_sends_a_given_number() -> None:
    transport = Slow(0.001)
    found = closed_loop(transport, iter(range(7)), ok, 3, seconds=float("inf"), ramp=0.0)
    assert found["total"] == found["completed"] == 7


def test_closed_loop_of_no_photos() -> None:
    found = closed_loop(Slow(0.001), iter(()), ok, 3, seconds=float("inf"), ramp=0.0)
    assert found["total"] == found["completed"] == 0


def test_open_loop_counts_latency_from_the_time_a_request_was_meant_to_go_out() -> None:
    pause, count = 0.02, 5
    found = open_loop(Slow(pause), itertools.count(), ok, [0.0] * count)
    latencies = sorted(found["latencies_ms"])
    assert len(latencies) == count
    for place, ms in enumerate(latencies, start=1):  # each waits for all before it
        assert ms >= 1000 * pause * place


def test_open_loop_does_not_hide_that_the_generator_is_late() -> None:
    found = open_loop(Stuck(0.0), itertools.count(), ok, [0.0, 0.001, 0.002])
    assert min(found["latencies_ms"]) >= 50
    assert max(found["latencies_ms"]) >= 140
    assert max(found["lateness_ms"]) >= 140


def test_open_loop_of_no_requests() -> None:
    assert open_loop(Slow(0.0), itertools.count(), ok, [])["total"] == 0


def test_arrivals() -> None:
    assert load.arrivals(4, 1.0, poisson=False) == [0, 0.25, 0.5, 0.75]
    times = load.arrivals(1000, 2.0, poisson=True)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 2
    assert len(times) == pytest.approx(2000, rel=0.15)
    assert times != load.arrivals(1000, 2.0, poisson=True, seed=1)


def answer_of(body: bytes, status: str = "OK") -> Answer:
    return Answer(0, 0.0, 1.0, status, body)


def test_examiner_reads_some_answers_and_finds_wrong_ones() -> None:
    examiner = Examiner(load.read_json, [(2, 1.5)], every=1)
    assert examiner.verdict(answer_of(b'{"scores": [0.9, 0.6]}')) == "OK"
    assert examiner.verdict(answer_of(b'{"output": {"scores": [0.9, 0.6]}}')) == "OK"
    assert examiner.verdict(answer_of(b'{"scores": [0.9]}')) == "WRONG"
    assert examiner.verdict(answer_of(b'{"scores": [0.9, 0.9]}')) == "WRONG"
    assert examiner.verdict(answer_of(b"", "UNAVAILABLE")) == "UNAVAILABLE"
    seldom = Examiner(load.read_json, [(2, 1.5)], every=2)
    wrong = answer_of(b'{"scores": []}')
    assert [seldom.verdict(wrong) for _ in range(4)] == ["OK", "WRONG", "OK", "WRONG"]


def test_triton_answers_are_read() -> None:
    answer = service_pb2.ModelInferResponse()
    for name, array in {
        "num_detections": np.array([[2]], np.int32),
        "detection_scores": np.array([[0.75, 0.5, 0.0]], np.float32),
    }.items():
        answer.outputs.add(name=name)
        answer.raw_output_contents.append(array.tobytes())
    assert load.read_triton(answer.SerializeToString()) == [0.75, 0.5]


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
    assert load.parse_http(received) == expected


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


def gather(transport: load.Transport, count: int) -> list[Answer]:
    answers: list[Answer] = []
    while len(answers) < count:
        answers += load.wait(transport, count - len(answers))
    return sorted(answers)


def test_http_over_real_connections(http_server: tuple[str, int]) -> None:
    photos = [b"x" * 10, b"x" * 100_000, b"busy", b"hang up"]
    requests = [load.http_request(photo, "/detect", "image/jpeg") for photo in photos]
    transport = Http(*http_server, requests)
    for number in range(4):
        transport.send(number, load.clock())
    found = [(answer.status, answer.body) for answer in gather(transport, 4)]
    assert found == [("OK", b"10"), ("OK", b"100000"), ("503", b"4"), ("CLOSED", b"")]
    transport.send(0, load.clock())  # the connections go on
    assert gather(transport, 1)[0].body == b"10"
    transport.send(3, load.clock())  # ends a used one: sent again, on a new one, which ends too
    assert gather(transport, 1)[0].status == "CLOSED"
    transport.close()


def test_a_form_carries_the_photo() -> None:
    request = load.http_request(b"JPEG", "/detect", "", field="file")
    head, body = request.split(b"\r\n\r\n", 1)
    assert b"multipart/form-data; boundary=cut" in head
    assert b"Content-Length: %d" % len(body) in head
    assert b'name="file"' in body
    assert b"\r\n\r\nJPEG\r\n--cut--\r\n" in body


class Service(grpc.GenericRpcHandler):
    """Answers with the length of the request; refuses short ones."""

    def service(self, details: Any) -> Any:
        assert details.method == METHOD
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if len(request) < 5:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")
        return str(len(request)).encode() * 3000


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize("kind", [Grpc, Http2])
def test_grpc_over_a_real_connection(grpc_server: str, kind: type[Grpc] | type[Http2]) -> None:
    transport = kind(grpc_server, METHOD, [b"x" * 10, b"x" * 300_000, b"x"])
    for number in range(3):
        transport.send(number, load.clock())
    found = [(answer.status, answer.body) for answer in gather(transport, 3)]
    assert found == [("OK", b"10" * 3000), ("OK", b"300000" * 3000), ("UNAVAILABLE", b"")]
    transport.close()


@pytest.mark.parametrize("kind", [Grpc, Http2])
def test_grpc_in_a_closed_loop(grpc_server: str, kind: type[Grpc] | type[Http2]) -> None:
    bodies = [b"x" * 20_000, b"x"]
    transport = kind(grpc_server, METHOD, bodies)
    turn = itertools.islice(itertools.cycle(range(2)), 60)
    found = closed_loop(transport, turn, ok, 8, seconds=float("inf"), ramp=0.0)
    assert found["verdicts"] == {"OK": 30, "UNAVAILABLE": 30}
    assert len(found["latencies_ms"]) == 30
    transport.close()
