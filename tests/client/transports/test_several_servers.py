"""Several servers behind one detector: small ones in this process, then real ones that die."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
from client.transports import retries, servers
from serving.server.server import EmbeddedServer, ServerSettings
from tests.client.canary.names import ALL, CANARY, STABLE
from tests.client.conftest import Service, answer_tensors, serve
from tests.conftest import PROJECT, QUICK, wait_until


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


def test_a_server_that_hangs_is_left_out_after_a_while(
    three: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "FIRST_OUT", 60.0)  # longer than this takes on a busy machine
    three[0].answer = lambda *_: time.sleep(2) or answer_tensors()  # type: ignore[func-returns-value]
    failures = 0
    with Detector(urls(three), timeout=1) as detector:
        for _ in range(18):
            try:
                detector.detect(b"image")
            except DeadlineExceeded:
                failures += 1
    assert failures == asked(three)[0] == 3


def test_a_canary_that_is_gone_is_not_held_against_its_server(three: list[Service]) -> None:
    def answer(request, context):
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
    def answer(_, context):
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
    def answer(_, context):
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


# Real servers. A killed one is started again by its supervisor.


class Load:
    """What became of a detector's requests, and who answered them."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.errors: list[BaseException] = []
        self.servers: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """Count a result."""
        assert result.detections
        self.servers[result.server] += 1


def send_from_threads(urls: list[str], photo: Path, load: Load) -> None:
    def send() -> None:
        while not load.end.is_set():
            try:
                load.add(detector.detect(photo))
            except BaseException as error:
                load.errors.append(error)

    with Detector(urls) as detector, ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(AT_ONCE):
            pool.submit(send)


def send_from_tasks(urls: list[str], photo: Path, load: Load) -> None:
    async def send(detector: AsyncDetector) -> None:
        while not load.end.is_set():
            try:
                load.add(await detector.detect(photo))
            except Exception as error:
                load.errors.append(error)

    async def send_all() -> None:
        async with AsyncDetector(urls) as detector:
            await asyncio.gather(*(send(detector) for _ in range(AT_ONCE)))

    asyncio.run(send_all())


AT_ONCE = 3
SENDERS = {"threads": send_from_threads, "tasks": send_from_tasks}
CASES = [(protocol, kind) for protocol in ("gRPC", "HTTP") for kind in SENDERS]


Loads = dict[tuple[str, str], Load]


def loads_over(urls: dict[str, list[str]], kill: Callable[[], None], photo: Path) -> Loads:
    """The loads of all cases, while the first of their two servers is killed and comes back.

    Args:
        urls: of both, by the protocol.
        kill: returns when another process is in its place.
        photo: what is sent.
    """
    loads = {case: Load() for case in CASES}

    def answers(case: tuple[str, str]) -> int:
        """How many came from the server that is killed."""
        return loads[case].servers[urls[case[0]][0]]

    with ThreadPoolExecutor(len(CASES)) as pool:
        for protocol, kind in CASES:
            pool.submit(SENDERS[kind], urls[protocol], photo, loads[protocol, kind])
        try:
            wait_until(lambda: min(map(answers, CASES)) > 5)
            kill()
            before = {case: answers(case) for case in CASES}
            wait_until(lambda: all(answers(case) > before[case] + 5 for case in CASES))
        finally:
            for load in loads.values():
                load.end.set()
    return loads


@pytest.fixture(scope="module")
def outage(server: EmbeddedServer, smear: Path) -> Loads:
    settings = ServerSettings(PROJECT / "model_repository", arguments=QUICK)
    with EmbeddedServer(settings) as killed:

        def kill() -> None:
            pid = killed.process.pid
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: killed.process.pid != pid)

        pair = (killed, server)
        urls = {
            "gRPC": [each.grpc_url for each in pair],
            "HTTP": [f"http://{each.http_url}" for each in pair],
        }
        return loads_over(urls, kill, smear)


@pytest.mark.parametrize(("protocol", "kind"), CASES)
def test_no_request_fails_while_one_of_two_servers_is_killed(
    outage: Loads, protocol: str, kind: str
) -> None:
    load = outage[protocol, kind]
    assert load.errors == []
    assert len(load.servers) == 2
    assert min(load.servers.values()) > 10
