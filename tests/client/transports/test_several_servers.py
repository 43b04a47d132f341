"""Several servers behind one detector: small ones in this process, then real ones that die."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from client import (
    AsyncDetector,
    DeadlineExceeded,
    Detector,
    DetectorError,
    InvalidImage,
    Result,
    ServerUnavailable,
)
from client.transports import retries
from serving.server.server import EmbeddedServer, ServerSettings
from tests.client.conftest import Service, answer_tensors, serve
from tests.client.test_canary import ALL, CANARY, STABLE
from tests.conftest import PROJECT, wait_until


@pytest.fixture
def three() -> Iterator[list[Service]]:
    services = [Service() for _ in range(3)]
    running = [serve(service) for service in services]
    yield services
    for server in running:
        server.stop(None).wait()


def urls(services: list[Service]) -> list[str]:
    return [service.url for service in services]


def asked(services: list[Service]) -> list[int]:
    return [len(service.requests) for service in services]


def test_each_gets_its_share_and_the_result_tells_which(three: list[Service]) -> None:
    with Detector(urls(three)) as detector:
        results = [detector.detect(b"image") for _ in range(9)]
    assert asked(three) == [3, 3, 3]
    assert Counter(result.server for result in results) == dict.fromkeys(urls(three), 3)


def test_they_may_be_one_text(three: list[Service]) -> None:
    with Detector(",".join(urls(three))) as detector:
        list(detector.detect_many([b"image"] * 9))
        assert detector.url == ",".join(urls(three))
    assert asked(three) == [3, 3, 3]


def test_another_stands_in_for_one_that_is_full(three: list[Service]) -> None:
    three[0].refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    with Detector(urls(three)) as detector:
        for _ in range(9):
            detector.detect(b"image")
    assert asked(three)[0] == 1
    assert sum(asked(three)[1:]) == 9


def test_another_stands_in_for_one_that_is_away(three: list[Service], nowhere: str) -> None:
    with Detector([nowhere, *urls(three)]) as detector:
        assert {detector.detect(b"image").server for _ in range(9)} == set(urls(three))


def test_a_wrong_image_is_not_sent_to_the_others(three: list[Service]) -> None:
    for service in three:
        service.refuse(grpc.StatusCode.INVALID_ARGUMENT, "image 0: no image")
    with Detector(urls(three)) as detector, pytest.raises(InvalidImage):
        detector.detect(b"image")
    assert sum(asked(three)) == 1


def test_all_away_is_told_of_one_of_them(nowhere: str) -> None:
    with (
        Detector([nowhere, f"http://{nowhere}"]) as detector,
        pytest.raises(ServerUnavailable, match=nowhere),
    ):
        detector.detect(b"image")


def test_a_server_that_hangs_is_left_out_after_a_while(three: list[Service]) -> None:
    three[0].answer = lambda *_: time.sleep(2) or answer_tensors()  # type: ignore[func-returns-value]
    failures = 0
    with Detector(urls(three), timeout=0.3) as detector:
        for _ in range(18):
            try:
                detector.detect(b"image")
            except DeadlineExceeded:
                failures += 1
    assert failures == 3


def test_a_canary_that_is_gone_is_not_held_against_its_server(three: list[Service]) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if request.model_name == CANARY:
            context.abort(grpc.StatusCode.NOT_FOUND, f"'{CANARY}' has no available versions")
        return answer_tensors()

    for service in three:
        service.canary, service.answer = ALL, answer
    with Detector(urls(three), canary_key="user 42") as detector:
        assert {detector.detect(b"image").model for _ in range(9)} == {STABLE}
        results = [detector.detect(b"image", canary_key="") for _ in range(3)]
    assert {result.server for result in results} == set(urls(three))


def test_a_canary_is_asked_for_where_a_server_answers(three: list[Service], nowhere: str) -> None:
    for service in three:
        service.canary = ALL
    with Detector([nowhere, *urls(three)], canary_key="user 42") as detector:
        assert detector.detect(b"image").model == CANARY


def test_one_that_is_full_is_tried_again(service: Service) -> None:
    def answer(_: Any, context: grpc.ServicerContext) -> Any:
        if len(service.requests) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        return answer_tensors()

    service.answer = answer
    with Detector(service.url) as detector:
        assert detector.detect(b"image").width == 640
    assert len(service.requests) == 3


@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_number_of_retries_can_be_set(service: Service, number: int) -> None:
    service.refuse(grpc.StatusCode.UNAVAILABLE, "Server is stopping")
    with Detector(service.url, retries=number) as detector, pytest.raises(ServerUnavailable):
        detector.detect(b"image")
    assert len(service.requests) == number + 1


@pytest.mark.parametrize(
    "status", [s for s in grpc.StatusCode if s.name not in ("OK", "UNAVAILABLE")]
)
def test_nothing_else_is_tried_again(service: Service, status: grpc.StatusCode) -> None:
    service.refuse(status, "no")
    with Detector(service.url) as detector, pytest.raises(DetectorError):
        detector.detect(b"image")
    assert len(service.requests) == 1


def test_retries_share_the_timeout(service: Service) -> None:
    def answer(_: Any, context: grpc.ServicerContext) -> Any:
        time.sleep(0.3)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    service.answer = answer
    begin = time.monotonic()
    with (
        Detector(service.url, timeout=0.5, retries=100) as detector,
        pytest.raises((ServerUnavailable, DeadlineExceeded)),
    ):
        detector.detect(b"image")
    assert time.monotonic() - begin < 1.5


def test_an_outage_is_not_answered_by_a_storm(service: Service) -> None:
    service.refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    begin = time.monotonic()
    with Detector(service.url) as detector:
        outcomes = list(detector.detect_many([b"image"] * 200, concurrency=16, errors="return"))
    assert all(isinstance(outcome, ServerUnavailable) for outcome in outcomes)
    seconds = time.monotonic() - begin
    assert len(service.requests) <= 200 + retries.RESERVE + seconds * retries.PER_SECOND


# Real servers. Killed ones are started again by their supervisors.


@pytest.fixture(scope="module")
def pair() -> Iterator[list[EmbeddedServer]]:
    settings = ServerSettings(PROJECT / "model_repository")
    with EmbeddedServer(settings) as one, EmbeddedServer(settings) as other:
        yield [one, other]


def addresses(pair: list[EmbeddedServer], protocol: str) -> list[str]:
    if protocol == "gRPC":
        return [server.grpc_url for server in pair]
    return [f"http://{server.http_url}" for server in pair]


class Load:
    """What became of requests, and who answered since when."""

    def __init__(self) -> None:
        self.end = False
        self.errors: list[BaseException] = []
        self.servers: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """Count a result."""
        assert result.detections
        self.servers[result.server] += 1


def kill_and_wait(pair: list[EmbeddedServer], load: Load, url: str) -> None:
    """Kill the first server under load and wait until it has answered again."""
    wait_until(lambda: load.servers[url] > 5)
    os.kill(pair[0].process.pid, signal.SIGKILL)
    time.sleep(1)
    before = load.servers[url]
    wait_until(lambda: load.servers[url] > before + 5)


@pytest.mark.parametrize("protocol", ["gRPC", "HTTP"])
def test_really_no_request_fails_while_one_of_two_servers_is_killed(
    pair: list[EmbeddedServer], smear: Path, protocol: str
) -> None:
    load = Load()

    def run() -> None:
        while not load.end:
            try:
                load.add(detector.detect(smear))
            except BaseException as error:
                load.errors.append(error)

    with Detector(addresses(pair, protocol)) as detector:
        threads = [threading.Thread(target=run) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            kill_and_wait(pair, load, addresses(pair, protocol)[0])
        finally:
            load.end = True
            for thread in threads:
                thread.join()
    assert load.errors == []


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", ["gRPC", "HTTP"])
async def test_really_no_task_fails_either(
    pair: list[EmbeddedServer], smear: Path, protocol: str
) -> None:
    load = Load()

    async def run() -> None:
        while not load.end:
            try:
                load.add(await detector.detect(smear))
            except Exception as error:
                load.errors.append(error)

    async with AsyncDetector(addresses(pair, protocol)) as detector:
        tasks = [asyncio.create_task(run()) for _ in range(6)]
        try:
            url = addresses(pair, protocol)[0]
            await asyncio.to_thread(kill_and_wait, pair, load, url)
        finally:
            load.end = True
            await asyncio.gather(*tasks)
    assert load.errors == []
