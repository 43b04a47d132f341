import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from client import (
    AsyncDetector,
    DeadlineExceeded,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    Result,
    ServerError,
    ServerUnavailable,
)
from client.images import Image
from tests.client.canary.names import ALL, CANARY, STABLE
from tests.client.conftest import Service, answer_tensors
from tests.client.test_detector import Crowd, image_in, number_in
from tests.conftest import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def detector(service: Service) -> AsyncIterator[AsyncDetector]:
    async with AsyncDetector(service.url, timeout=10) as detector:
        yield detector


def slow(seconds: float) -> Any:
    """An answer that takes so long."""
    return lambda *_: time.sleep(seconds) or answer_tensors()  # type: ignore[func-returns-value]


async def test_a_result_is_that_of_the_other_detector(
    service: Service, detector: AsyncDetector
) -> None:
    result = await detector.detect(b"image", max_detections=7)
    assert result == Result((), width=640, height=480)
    assert (result.model, result.server) == ("ensemble", service.url)
    assert service.requests[0].parameters["max_detections"].int64_param == 7


async def test_a_file_is_read_and_one_that_is_missing_told(
    service: Service, detector: AsyncDetector, photo: Path
) -> None:
    await detector.detect(photo)
    assert image_in(service.requests[0]) == photo.read_bytes()
    with pytest.raises(InvalidImage, match=r"missing\.jpg: no such file"):
        await detector.detect("missing.jpg")


async def test_it_may_be_made_where_no_event_loop_runs(service: Service) -> None:
    detector = await asyncio.to_thread(AsyncDetector, service.url)
    assert (await detector.detect(b"image")).width == 640
    await detector.close()


async def test_one_that_was_never_used_is_closed(service: Service) -> None:
    await AsyncDetector(service.url).close()
    await AsyncDetector(f"http://{service.url}").close()


async def test_a_closed_one_says_so(detector: AsyncDetector) -> None:
    await detector.close()
    with pytest.raises(DetectorError, match="this detector is closed"):
        await detector.detect(b"image")


async def test_tasks_may_share_it(service: Service, detector: AsyncDetector) -> None:
    service.answer = number_in
    results = await asyncio.gather(*(detector.detect(bytes(n)) for n in range(1, 17)))
    assert [result.width for result in results] == list(range(1, 17))


async def test_the_timeout_is_in_seconds(service: Service) -> None:
    service.answer = slow(1)
    begin = time.monotonic()
    async with AsyncDetector(service.url, timeout=0.2) as detector:
        with pytest.raises(
            DeadlineExceeded, match=r"no answer from 127\.0\.0\.1:\d+ within 0\.2 s"
        ):
            await detector.detect(b"image")
        assert 0.2 <= time.monotonic() - begin < 0.9


async def test_a_cancelled_task_cancels_on_the_server(
    service: Service, detector: AsyncDetector
) -> None:
    ended: list[float] = []

    def answer(_, context):
        context.add_callback(lambda: ended.append(time.monotonic()))
        while not ended:
            time.sleep(0.01)
        return answer_tensors()

    service.answer = answer
    task = asyncio.create_task(detector.detect(b"image"))
    await until(lambda: bool(service.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: bool(ended))


async def until(ready: Any, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.01)


async def test_closing_cancels_what_is_under_way(service: Service) -> None:
    service.answer = slow(2)
    detector = AsyncDetector(service.url)
    task = asyncio.create_task(detector.detect(b"image"))
    await until(lambda: bool(service.requests))
    await detector.close()
    with pytest.raises(ServerError, match="was cancelled"):
        await task


async def test_a_server_that_is_full_is_tried_again(
    service: Service, detector: AsyncDetector
) -> None:
    service.refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    with pytest.raises(ServerUnavailable):
        await detector.detect(b"image")
    assert len(service.requests) == 4


# The canary.


async def test_a_key_takes_part(service: Service, detector: AsyncDetector) -> None:
    service.canary = ALL
    assert (await detector.detect(b"image", canary_key="user 42")).model == CANARY
    assert (await detector.detect(b"image")).model == STABLE


async def test_the_first_time_all_wait_for_the_one_who_asks(
    service: Service, detector: AsyncDetector
) -> None:
    service.canary = ALL
    service.ask_seconds = 0.2
    results = await asyncio.gather(
        *(detector.detect(b"image", canary_key=str(n)) for n in range(16))
    )
    assert {result.model for result in results} == {CANARY}
    assert service.asked == 1


async def test_a_canary_that_fails_is_answered_for(
    service: Service, detector: AsyncDetector
) -> None:
    service.canary = ALL
    service.answer = lambda request, _: {} if request.model_name == CANARY else answer_tensors()
    assert (await detector.detect(b"image", canary_key="user 42")).model == STABLE


# Many.


async def test_many_of_none_are_none(detector: AsyncDetector) -> None:
    assert [result async for result in detector.detect_many([])] == []


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_many_come_in_their_order(
    service: Service, detector: AsyncDetector, concurrency: int
) -> None:
    service.answer = number_in
    images = [bytes(length) for length in (5, 900_000, 2, 70_000, 1, 300_000, 4, 3, 9, 8)]
    results = detector.detect_many(images, concurrency=concurrency)
    assert [result.width async for result in results] == [len(image) for image in images]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_as_many_requests_as_asked_for_are_under_way(
    service: Service, detector: AsyncDetector, concurrency: int
) -> None:
    service.answer = crowd = Crowd()
    async for _ in detector.detect_many([b"image"] * 20, concurrency=concurrency):
        pass
    assert crowd.most == concurrency


async def test_a_slow_image_does_not_hold_up_the_others(
    service: Service, detector: AsyncDetector
) -> None:
    def answer(request, context):
        if image_in(request) == b"slow":
            wait_until(lambda: len(service.requests) == 10)
        return number_in(request, context)

    service.answer = answer
    images = [b"slow", *[b"fast"] * 9]
    results = [result async for result in detector.detect_many(images, concurrency=2)]
    assert len(results) == 10


def endless(taken: list[bytes]) -> Iterator[bytes]:
    while True:
        taken.append(b"image")
        yield b"image"


async def test_an_endless_iterable_is_taken_as_results_are(detector: AsyncDetector) -> None:
    taken: list[bytes] = []
    async with aclosing(detector.detect_many(endless(taken), concurrency=3)) as results:
        for _ in range(5):
            await anext(results)
    assert 5 <= len(taken) < 5 + 16 * 3 + 3


async def test_images_that_come_slowly_are_answered_as_they_come(
    service: Service, detector: AsyncDetector
) -> None:
    answered = asyncio.Event()

    async def camera() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"frame"
            async with asyncio.timeout(20):
                await answered.wait()  # the next comes only after this one's result
            answered.clear()

    number = 0
    async for _ in detector.detect_many(camera(), concurrency=8):
        number += 1
        answered.set()
    assert number == 3


async def test_leaving_early_cancels_what_is_under_way(
    service: Service, detector: AsyncDetector
) -> None:
    ended: list[bool] = []

    def answer(request, context):
        if image_in(request) == b"slow":
            context.add_callback(lambda: ended.append(context.is_active()))
            wait_until(lambda: ended)
        return answer_tensors()

    service.answer = answer
    images = [b"fast", b"slow", b"slow"]
    async with aclosing(detector.detect_many(images, concurrency=3)) as results:
        await anext(results)
        await until(lambda: len(service.requests) == 3)
    await until(lambda: len(ended) == 2)


async def test_the_first_failing_image_raises_in_its_turn_and_ends(detector: AsyncDetector) -> None:
    results = detector.detect_many([b"image", "missing.jpg", b"image"])
    assert (await anext(results)).width == 640
    with pytest.raises(InvalidImage, match=r"missing\.jpg: no such file"):
        await anext(results)
    assert [result async for result in results] == []


async def test_a_failing_image_can_be_returned_in_its_place(detector: AsyncDetector) -> None:
    images: list[Image] = [b"1", "missing.jpg", b"four"]
    results = [result async for result in detector.detect_many(images, errors="return")]
    assert [type(result) for result in results] == [Result, InvalidImage, Result]


async def test_a_mistake_of_the_iterables_is_raised(detector: AsyncDetector) -> None:
    def broken() -> Iterator[bytes]:
        yield b"image"
        raise OSError("the disk is gone")

    results = detector.detect_many(broken(), errors="return")
    with pytest.raises(OSError, match="the disk is gone"):
        async for _ in results:
            pass


async def test_wrong_arguments_for_many_are_told_at_once(detector: AsyncDetector) -> None:
    with pytest.raises(InvalidParameter, match="concurrency must be 1 or more, but got 0"):
        detector.detect_many([], concurrency=0)
    with pytest.raises(InvalidParameter, match="errors must be"):
        detector.detect_many([], errors="ignore")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="threshold"):
        detector.detect_many([], threshold=0.5)  # type: ignore[call-overload]
