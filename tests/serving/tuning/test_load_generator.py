"""The load generator, over a server that answers at once or never."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from serving.errors import TuneError
from serving.tuning.load_generator import (
    METHOD,
    Channel,
    Generator,
    serialise_request,
)
from tests.conftest import PROJECT


class Answers(grpc.GenericRpcHandler):
    """Answers each request after a while, and counts photos and how many it had at once."""

    def __init__(self) -> None:
        self.photos: Counter[bytes] = Counter()
        self.at_once = self.most = 0
        self.seconds = 0.005
        self.fails = False
        self._lock = threading.Lock()

    def service(self, details: Any) -> Any:
        assert details.method == METHOD
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, body: bytes, context: Any) -> bytes:
        request = service_pb2.ModelInferRequest.FromString(body)
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.photos[request.raw_input_contents[0]] += 1
        time.sleep(self.seconds)
        with self._lock:
            self.at_once -= 1
        if self.fails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")
        return b"anything"


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def url(answers: Answers) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), handlers=[answers])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_request() -> None:
    request = service_pb2.ModelInferRequest.FromString(serialise_request(b"photo", "road"))
    assert (request.model_name, request.inputs[0].name) == ("road", "image")
    assert request.raw_input_contents[0] == b"\x05\0\0\0photo"


def test_concurrency_and_turns(answers: Answers, url: str) -> None:
    sample = Channel(
        url, [serialise_request(b"one", "m"), serialise_request(b"two", "m")]
    ).send_load(3, 0.3)
    assert answers.most == 3
    first, second = answers.photos.values()
    assert abs(first - second) <= 1
    assert 0 < len(sample.latencies) < first + second  # those in the window
    assert min(sample.latencies) >= 5
    assert (sample.seconds, sample.failures, sample.error) == (0.3, 0, "")


def test_failures_are_told(answers: Answers, url: str) -> None:
    answers.fails = True
    sample = Channel(url, [serialise_request(b"one", "m")]).send_load(2, 0.1)
    assert sample.latencies == []
    assert sample.failures == sum(answers.photos.values())
    assert sample.error == "UNAVAILABLE the queue is full"


def test_process(answers: Answers, url: str, tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"a photo")
    with Generator(url, "m", [tmp_path / "one.jpg"]) as generator:
        assert len(generator.send_load(2, 0.2).latencies) > 2
        assert generator.send_load(1, 0.1).failures == 0
    assert list(answers.photos) == [b"\x07\0\0\0a photo"]


def test_process_that_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        Generator("127.0.0.1:1", "m", [tmp_path / "absent.jpg"]) as generator,
        pytest.raises(TuneError, match="the load generator ended with exit code 1"),
    ):
        generator.send_load(1, 0.1)
    assert "absent.jpg" in capfd.readouterr().err


def test_a_near_end_that_is_gone_before_it_began_is_no_error() -> None:
    command = [sys.executable, "-m", "serving.tuning.load_generator"]
    done = subprocess.run(
        command, input="", capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout == done.stderr == ""
