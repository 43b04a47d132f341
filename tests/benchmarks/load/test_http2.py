"""gRPC over a real connection to a tiny server, as gRPC's own library does it."""

import itertools
import queue
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
import pytest

from benchmarks.load.http2 import Http2
from benchmarks.load.loops import closed_loop
from benchmarks.load.transport import Answer, clock
from tests.benchmarks.load.conftest import gather

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Library:
    """The same through gRPC's own library, which tells what is right."""

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


@pytest.mark.parametrize("kind", [Library, Http2])
def test_grpc_over_a_real_connection(grpc_server: str, kind: type[Library] | type[Http2]) -> None:
    transport = kind(grpc_server, METHOD, [b"x" * 10, b"x" * 300_000, b"x"])
    for number in range(3):
        transport.send(number, clock())
    found = [(answer.status, answer.body) for answer in gather(transport, 3)]
    assert found == [("OK", b"10" * 3000), ("OK", b"300000" * 3000), ("UNAVAILABLE", b"")]
    transport.close()


@pytest.mark.parametrize("kind", [Library, Http2])
def test_grpc_in_a_closed_loop(grpc_server: str, kind: type[Library] | type[Http2]) -> None:
    bodies = [b"x" * 20_000, b"x"]
    transport = kind(grpc_server, METHOD, bodies)
    turn = itertools.islice(itertools.cycle(range(2)), 60)
    found = closed_loop(
        transport, turn, lambda answer: answer.status, 8, seconds=float("inf"), ramp=0.0
    )
    assert found["verdicts"] == {"OK": 30, "UNAVAILABLE": 30}
    assert len(found["latencies_ms"]) == 30
    transport.close()
