"""HTTP before a server that says what a test wants; test_protocols.py has a real one."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from client import (
    AsyncDetector,
    DeadlineExceeded,
    Detection,
    Detector,
    InvalidImage,
    InvalidParameter,
    Result,
    Security,
    ServerError,
    ServerUnavailable,
)
from tests.client.conftest import Service, answer_tensors
from tests.client.http_service import Handler, HttpService, message_of, serve_http, slowly, trickle


@pytest.fixture
def http() -> Iterator[HttpService]:
    with serve_http() as service:
        yield service


@pytest.fixture
def detector(http: HttpService) -> Iterator[Detector]:
    with Detector(http.url, timeout=10, retries=0) as detector:
        yield detector


def test_nothing_found_is_an_empty_result(http: HttpService, detector: Detector) -> None:
    result = detector.detect(b"image")
    assert result == Result((), width=640, height=480)
    assert (result.model, result.server) == ("ensemble", http.url)


def test_what_the_server_found_arrives(
    http: HttpService, detector: Detector, cell: Detection
) -> None:
    http.answer = lambda handler: handler.result(answer_tensors([cell], size=(300, 200)))
    assert detector.detect(b"image") == Result((cell,), width=200, height=300)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8 a photo", b"trailing zeros\0\0\0"])
def test_the_bytes_travel_untouched(http: HttpService, detector: Detector, content: bytes) -> None:
    detector.detect(content, score_threshold=0.25, max_detections=7)
    head, image = sent(http)
    (tensor,) = head["inputs"]
    assert image == len(content).to_bytes(4, "little") + content
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("image", "BYTES", [1, 1])
    assert tensor["parameters"] == {"binary_data_size": len(image)}
    assert 9_000_000 < head["parameters"].pop("timeout") <= 10_000_000
    expected = {"score_threshold": 0.25, "max_detections": 7, "binary_data_output": True}
    assert head["parameters"] == expected


def sent(http: HttpService) -> tuple[dict, bytes]:
    """Return the JSON and the tensor of the one request."""
    (headers,), (body,) = http.headers, http.bodies
    length = int(headers["inference-header-content-length"])
    return json.loads(body[:length]), body[length:]


def test_the_path_may_have_a_prefix_and_the_model_any_name(http: HttpService) -> None:
    with Detector(f"{http.url}/cells/", model="a b/c") as detector:
        detector.detect(b"image")
    assert http.paths == ["/cells/v2/models/a%20b%2Fc/infer"]


def test_a_key_travels_with_each_request(http: HttpService) -> None:
    with Detector(http.url, security=Security(api_key="secret")) as detector:
        detector.detect(b"image", canary_key="camera")
    assert [headers["x-api-key"] for headers in http.headers] == ["secret"] * 2


def test_one_connection_is_kept_for_requests_one_after_another(
    http: HttpService, detector: Detector
) -> None:
    for _ in range(5):
        detector.detect(b"image")
    assert len(http.clients) == 1


def test_requests_at_once_have_a_connection_each(http: HttpService, detector: Detector) -> None:
    together = threading.Barrier(20)

    def answer(handler: Handler) -> None:
        together.wait(10)
        handler.result(answer_tensors())

    http.answer = answer
    assert len(list(detector.detect_many([b"image"] * 20, concurrency=20))) == 20


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, "in ensemble 'ensemble', image 0: no image", InvalidImage, "^the image: no image$"),
        (400, "score_threshold is 7, no", InvalidParameter, "^score_threshold is 7, no$"),
        (400, "unexpected input", ServerError, "expects another request: unexpected input"),
        (401, None, ServerError, r"wants another key \(Security.api_key\): HTTP status 401"),
        (403, "This API is restricted", ServerError, "wants another key.*: This API is restricted"),
        (404, "Request for unknown model: 'x' is not found", ServerError, "'x' is not found"),
        (404, "'x' has no available versions", ServerUnavailable, "takes no requests now"),
        (413, None, InvalidImage, "larger than the server at .* accepts"),
        (429, None, ServerUnavailable, "takes no requests now: HTTP status 429"),
        (500, "Stub process is not healthy.", ServerError, "failed: Stub process"),
        (502, None, ServerUnavailable, "takes no requests now"),
        (503, "Server is stopping", ServerUnavailable, "takes no requests now: Server is stopping"),
        (504, None, ServerUnavailable, "takes no requests now"),
        (302, None, ServerError, "failed: HTTP status 302"),
    ],
)
def test_each_status_has_its_kind_and_its_words(
    http: HttpService, detector: Detector, status: int, body: str | None, kind: type, says: str
) -> None:
    text = "<html>a proxy's page" if body is None else json.dumps({"error": body})
    http.answer = lambda handler: handler.reply(status, text.encode())
    with pytest.raises(kind, match=says):
        detector.detect(b"image")
    assert len(http.bodies) == 1


HEAD, TENSORS = message_of(answer_tensors())
LENGTH = str(len(HEAD))


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", "0"),
        (b"<html>", "6"),
        (b"[]", "2"),
        (b"{}", "2"),
        (b'{"model_name": "x", "outputs": [1]}', "35"),
        (b'{"model_name": "x", "outputs": [{"name": "a"}]}', "47"),
        (HEAD + TENSORS, "x"),
        (HEAD + TENSORS, "7"),
    ],
)
def test_an_answer_of_something_else_is_a_server_error(
    http: HttpService, detector: Detector, body: bytes, length: str
) -> None:
    http.answer = lambda handler: handler.reply(200, body, Inference_Header_Content_Length=length)
    with pytest.raises(ServerError, match="failed: its answer is not one of the KServe protocol"):
        detector.detect(b"image")


def test_an_answer_that_is_cut_is_a_server_error(http: HttpService, detector: Detector) -> None:
    body = HEAD + TENSORS[:-1]
    http.answer = lambda handler: handler.reply(200, body, Inference_Header_Content_Length=LENGTH)
    with pytest.raises(ServerError, match="does not fit its own shape"):
        detector.detect(b"image")


# The clock.


@pytest.mark.parametrize("answer", [trickle, slowly, lambda handler: time.sleep(3)])
def test_the_deadline_holds_however_slowly_a_server_answers(
    http: HttpService, answer: Callable[[Handler], None]
) -> None:
    http.answer = answer
    begin = time.monotonic()
    with (
        Detector(http.url, timeout=0.5) as detector,
        pytest.raises(DeadlineExceeded, match=r"no answer from http://.* within 0\.5 s"),
    ):
        detector.detect(b"image")
    assert 0.5 <= time.monotonic() - begin < 2.5


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [trickle, slowly])
async def test_the_deadline_holds_for_tasks_too(
    http: HttpService, answer: Callable[[Handler], None]
) -> None:
    http.answer = answer
    begin = time.monotonic()
    async with AsyncDetector(http.url, timeout=0.5) as detector:
        with pytest.raises(DeadlineExceeded):
            await detector.detect(b"image")
    assert 0.5 <= time.monotonic() - begin < 2.5


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that accepts connections and never reads."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_the_deadline_holds_for_an_upload_that_nobody_reads(deaf: str) -> None:
    begin = time.monotonic()
    with Detector(deaf, timeout=0.5) as detector, pytest.raises(DeadlineExceeded):
        detector.detect(bytes(30_000_000))
    assert 0.5 <= time.monotonic() - begin < 2.5


@pytest.mark.anyio
async def test_it_holds_for_such_an_upload_by_a_task_too(deaf: str) -> None:
    async with AsyncDetector(deaf, timeout=0.5) as detector:
        with pytest.raises(DeadlineExceeded):
            await detector.detect(bytes(30_000_000))


def test_closing_cancels_what_is_under_way(http: HttpService) -> None:
    http.answer = lambda handler: time.sleep(3)
    detector = Detector(http.url)
    threading.Timer(0.2, detector.close).start()
    begin = time.monotonic()
    with pytest.raises(ServerError, match="was cancelled"):
        detector.detect(b"image")
    assert time.monotonic() - begin < 2


# Connections.


def test_a_grpc_port_is_told_apart(service: Service) -> None:
    with (
        Detector(f"http://{service.url}", retries=0) as detector,
        pytest.raises(ServerUnavailable, match=r"Triton's (gRPC|HTTP) port"),
    ):
        detector.detect(b"image")


def test_a_server_that_is_not_there_is_told_with_its_address(nowhere: str) -> None:
    url = f"http://{nowhere}"
    with (
        Detector(url) as detector,
        pytest.raises(ServerUnavailable, match=f"answers at {url}: nothing listens there"),
    ):
        detector.detect(b"image")


def test_a_name_that_is_none_is_told() -> None:
    with (
        Detector("http://nowhere.invalid:8000") as detector,
        pytest.raises(ServerUnavailable, match="its name cannot be resolved"),
    ):
        detector.detect(b"image")


def test_a_connection_that_breaks_off_is_tried_again(http: HttpService) -> None:
    def answer(handler: Handler) -> None:
        if len(http.bodies) > 1:
            handler.result(answer_tensors())
        handler.close_connection = True

    http.answer = answer
    with Detector(http.url) as detector:
        assert detector.detect(b"image").width == 640
    assert len(http.bodies) == 2
