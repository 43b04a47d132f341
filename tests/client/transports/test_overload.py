"""What a server that has too much to do may ask for: to come later, and to let others pass."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from client import AsyncDetector, Detector, InvalidImage, Result, ServerUnavailable
from tests.client.canary.names import ALL, CANARY
from tests.client.conftest import Service, answer_tensors
from tests.client.http_service import Handler, HttpService, serve_http

Detect = Callable[..., Result]


class Busy:
    """A server by gRPC or HTTP that refuses the first `times` requests."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.url = server.url
        self.times = 0
        self.hint: int | None = 1  # seconds
        self.status = (grpc.StatusCode.UNAVAILABLE, 503)
        self.arrivals: list[float] = []

    def must_refuse(self) -> bool:
        self.arrivals.append(time.monotonic())
        return len(self.arrivals) <= self.times

    def by_grpc(self, _: Any, context: grpc.ServicerContext) -> Any:
        if self.must_refuse():
            if self.hint is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", f"{self.hint}000"),))
            context.abort(self.status[0], "too much at the moment")
        return answer_tensors()

    def by_http(self, handler: Handler) -> None:
        if self.must_refuse():
            hint = {} if self.hint is None else {"Retry_After": str(self.hint)}
            handler.reply(self.status[1], b'{"error": "too much at the moment"}', **hint)
        else:
            handler.result(answer_tensors())


@pytest.fixture
def http() -> Iterator[HttpService]:
    with serve_http() as service:
        yield service


@pytest.fixture(params=["gRPC", "HTTP"])
def busy(request: pytest.FixtureRequest, service: Service, http: HttpService) -> Busy:
    busy = Busy(service if request.param == "gRPC" else http)
    service.answer, http.answer = busy.by_grpc, busy.by_http
    return busy


def detect_by_threads(url: Any, **options: Any) -> Result:
    with Detector(url, **options) as detector:
        return detector.detect(b"image")


def detect_by_tasks(url: Any, **options: Any) -> Result:
    async def detect() -> Result:
        async with AsyncDetector(url, **options) as detector:
            return await detector.detect(b"image")

    return asyncio.run(detect())


@pytest.fixture(params=[detect_by_threads, detect_by_tasks], ids=["threads", "tasks"])
def detect(request: pytest.FixtureRequest) -> Detect:
    return request.param


def test_a_hint_is_waited_for(busy: Busy, detect: Detect) -> None:
    busy.times = 1
    assert detect(busy.url).width == 640
    first, second = busy.arrivals
    assert second - first >= 1


def test_a_hint_beyond_the_timeout_is_told_at_once(busy: Busy, detect: Detect) -> None:
    busy.times, busy.hint = 9, 20
    with pytest.raises(ServerUnavailable, match="requests now: too much at the moment") as raised:
        detect(busy.url, timeout=15)
    assert raised.value.retry_after == 20
    assert len(busy.arrivals) == 1


def test_a_refusal_without_a_hint_has_none(busy: Busy, detect: Detect) -> None:
    busy.times, busy.hint = 9, None
    with pytest.raises(ServerUnavailable) as raised:
        detect(busy.url)
    assert raised.value.retry_after is None


def test_another_server_is_asked_at_once(busy: Busy, detect: Detect) -> None:
    busy.times, busy.hint = 9, 20
    with serve_http() as other:
        assert detect([busy.url, other.url], timeout=15).server == other.url
    assert len(busy.arrivals) == 1


def test_bulk_work_waits_for_its_turn(busy: Busy, detect: Detect) -> None:
    busy.times, busy.hint = 5, 0
    with pytest.raises(ServerUnavailable):
        detect(busy.url, retries=0)
    assert detect(busy.url, retries=0, bulk=True).width == 640
    assert len(busy.arrivals) == 6


def test_only_bulk_work_lets_others_pass(busy: Busy, detect: Detect) -> None:
    detect(busy.url)
    detect(busy.url, bulk=True)
    assert [headers.get("priority") for headers in busy.server.headers] == [None, "u=7"]


def test_a_rate_that_is_used_up_is_no_fault_of_the_image(busy: Busy, detect: Detect) -> None:
    busy.times, busy.status = 1, (grpc.StatusCode.RESOURCE_EXHAUSTED, 429)
    assert detect(busy.url).width == 640
    first, second = busy.arrivals
    assert second - first >= 1


def test_what_is_too_large_stays_so(busy: Busy, detect: Detect) -> None:
    busy.times, busy.hint = 9, None
    busy.status = (grpc.StatusCode.RESOURCE_EXHAUSTED, 413)
    with pytest.raises(InvalidImage, match=r"larger than the server at .* accepts: too much"):
        detect(busy.url)
    assert len(busy.arrivals) == 1


def test_a_canarys_key_keeps_its_side_where_all_is_full(service: Service) -> None:
    busy = Busy(service)
    service.answer, service.canary = busy.by_grpc, ALL
    busy.times, busy.hint = 1, 0
    with Detector(service.url, canary_key="camera 7") as detector:
        assert detector.detect(b"image").model == CANARY
        assert len(busy.arrivals) == 2
        busy.times = 99
        with pytest.raises(ServerUnavailable, match="too much at the moment"):
            detector.detect(b"image")
    assert {request.model_name for request in service.requests} == {CANARY}
