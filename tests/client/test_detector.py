import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest

from client import (
    DeadlineExceeded,
    Detection,
    Detector,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    Result,
    ServerError,
    ServerUnavailable,
    drawing,
)
from client.images import Image
from client.ordered import WINDOW
from serving.server.server import EmbeddedServer
from tests.client.conftest import Service, Tensors, answer_tensors, save_photo, serve, turned
from tests.conftest import wait_until


@pytest.fixture
def detector(service: Service) -> Iterator[Detector]:
    with Detector(service.url, timeout=10) as detector:
        yield detector


@pytest.fixture(scope="module")
def real(server: EmbeddedServer) -> Iterator[Detector]:
    with Detector(server.grpc_url) as detector:
        yield detector


def image_in(request: Any) -> bytes:
    """Return the image that a request carries, without its length."""
    (content,) = request.raw_input_contents
    assert int.from_bytes(content[:4], "little") == len(content) - 4
    return content[4:]


def number_in(request: Any, _: grpc.ServicerContext) -> Tensors:
    """Answer an image of n bytes with the width n."""
    return answer_tensors(size=(1, len(image_in(request))))


class Crowd:
    """Answers slowly, and counts the requests that are under way at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, request, context):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self._lock:
            self.now -= 1
        return number_in(request, context)


def test_nothing_found_is_an_empty_result(detector: Detector) -> None:
    assert detector.detect(b"image") == Result((), width=640, height=480)


def test_what_the_server_found_arrives(
    service: Service, detector: Detector, cell: Detection
) -> None:
    service.answer = lambda *_: answer_tensors([cell], size=(300, 200))
    assert detector.detect(b"image") == Result((cell,), width=200, height=300)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8 a photo", b"trailing zeros\0\0\0"])
def test_the_bytes_travel_untouched(
    service: Service, detector: Detector, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    detector.detect(content)
    detector.detect(tmp_path / "a.jpg")
    assert [image_in(request) for request in service.requests] == [content, content]
    (tensor,) = service.requests[0].inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("image", "BYTES", [1, 1])


def test_an_array_travels_as_its_exact_pixels(service: Service, detector: Detector) -> None:
    array = np.random.default_rng(1).integers(0, 255, (5, 7, 3), np.uint8)
    detector.detect(array)
    png = np.frombuffer(image_in(service.requests[0]), np.uint8)
    assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1], array)


def test_the_servers_defaults_hold_unless_a_parameter_is_given(
    service: Service, detector: Detector
) -> None:
    detector.detect(b"image")
    detector.detect(b"image", score_threshold=0.25, iou_threshold=1, max_detections=7)
    default, given = (request.parameters for request in service.requests)
    assert set(default) == {"timeout"}
    assert given["score_threshold"].double_param == 0.25
    assert given["iou_threshold"].double_param == 1.0
    assert given["max_detections"].int64_param == 7


def test_the_model_may_have_another_name(service: Service) -> None:
    with Detector(service.url, model="canary") as detector:
        detector.detect(b"image")
    assert service.requests[0].model_name == "canary"


def test_a_server_that_is_not_there_is_told_at_once_with_its_address(nowhere: str) -> None:
    begin = time.monotonic()
    with Detector(nowhere) as detector, pytest.raises(ServerUnavailable) as raised:
        detector.detect(b"image")
    assert time.monotonic() - begin < 5
    assert f"no Triton server answers at {nowhere}: nothing listens there" in str(raised.value)
    assert "python -m serving up" in str(raised.value)


def test_a_server_that_stops_is_unavailable(service: Service, detector: Detector) -> None:
    service.refuse(grpc.StatusCode.UNAVAILABLE, "Server is stopping")
    with pytest.raises(ServerUnavailable, match="Server is stopping"):
        detector.detect(b"image")


def test_a_server_that_comes_back_is_found_within_seconds(nowhere: str) -> None:
    service = Service()
    with Detector(nowhere) as detector:
        with pytest.raises(ServerUnavailable):
            detector.detect(b"image")
        again = serve(service, nowhere)
        result = wait_until(lambda: detector.detect(b"image"), seconds=10, retry=ServerUnavailable)
        again.stop(None).wait()
    assert result.width == 640


def test_the_timeout_is_in_seconds(service: Service) -> None:
    service.answer = lambda *_: time.sleep(1) or answer_tensors()  # type: ignore[func-returns-value]
    begin = time.monotonic()
    with (
        Detector(service.url, timeout=0.2) as detector,
        pytest.raises(DeadlineExceeded, match=r"no answer from 127\.0\.0\.1:\d+ within 0\.2 s"),
    ):
        detector.detect(b"image")
    assert 0.2 <= time.monotonic() - begin < 0.9


def test_the_server_is_told_how_long_is_left(service: Service, detector: Detector) -> None:
    detector.detect(b"image")
    assert 9_000_000 < service.requests[0].parameters["timeout"].int64_param <= 10_000_000


def test_an_http_server_is_told_apart(nowhere: str) -> None:
    import http.server

    host, port = nowhere.split(":")
    web = http.server.HTTPServer((host, int(port)), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=web.handle_request)
    thread.start()
    with Detector(nowhere) as detector, pytest.raises(ServerUnavailable, match="not speak gRPC"):
        detector.detect(b"image")
    thread.join()
    web.server_close()


def test_a_proxy_for_the_web_does_not_stand_before_loopback(
    service: Service, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{nowhere}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Detector(service.url) as detector:
        assert detector.detect(b"image").width == 640


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidParameter, match="must be host:port"):
        Detector("127.0.0.1")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"retries": -1}, "retries must be 0 or more, but got -1"),
        ({"max_bytes": 0}, "max_bytes must be 1 to"),
        ({"max_bytes": 2**31}, "max_bytes must be 1 to"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_at_once(
    setting: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidParameter, match=says):
        Detector(**setting)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_must_be_above_zero(timeout: float) -> None:
    with pytest.raises(InvalidParameter, match="timeout must be seconds above 0"):
        Detector(timeout=timeout)


def test_many_of_none_are_none(detector: Detector) -> None:
    assert list(detector.detect_many([])) == []


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_many_come_in_their_order(service: Service, detector: Detector, concurrency: int) -> None:
    service.answer = number_in
    images = [bytes(length) for length in (5, 900_000, 2, 70_000, 1, 300_000, 4, 3, 9, 8)]
    results = detector.detect_many(images, concurrency=concurrency)
    assert [result.width for result in results] == [len(image) for image in images]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_requests_than_asked_for_are_under_way(
    service: Service, detector: Detector, concurrency: int
) -> None:
    service.answer = crowd = Crowd()
    list(detector.detect_many([b"image"] * 20, concurrency=concurrency))
    assert crowd.most == concurrency


def test_images_are_taken_only_as_results_are(service: Service, detector: Detector) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"image"

    results = detector.detect_many(endless(), concurrency=3)
    assert taken == 0
    next(results)
    assert 3 <= taken <= 3 * WINDOW


def test_the_first_failing_image_raises_in_its_turn_and_ends(detector: Detector) -> None:
    results = detector.detect_many([b"image", "missing.jpg", b"image"])
    assert next(results).width == 640
    with pytest.raises(InvalidImage, match=r"missing\.jpg: no such file"):
        next(results)
    assert list(results) == []


def test_a_failing_image_can_be_returned_in_its_place(service: Service, detector: Detector) -> None:
    service.answer = number_in
    images: list[Image] = [b"1", "missing.jpg", np.zeros((1, 1)), b"four"]
    results = list(detector.detect_many(images, errors="return"))
    assert [type(result) for result in results] == [Result, InvalidImage, InvalidImage, Result]


def test_parameters_hold_for_all_of_many(service: Service, detector: Detector) -> None:
    list(detector.detect_many([b"a", b"b"], max_detections=7))
    assert [r.parameters["max_detections"].int64_param for r in service.requests] == [7, 7]


def test_wrong_arguments_for_many_are_told_before_the_first_result(detector: Detector) -> None:
    with pytest.raises(InvalidParameter, match="concurrency must be 1 or more, but got 0"):
        detector.detect_many([], concurrency=0)
    with pytest.raises(InvalidParameter, match="errors must be"):
        detector.detect_many([], errors="ignore")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="threshold"):
        detector.detect_many([], threshold=0.5)  # type: ignore[call-overload]


def test_closing_cancels_what_is_under_way(service: Service) -> None:
    service.answer = lambda *_: time.sleep(2) or answer_tensors()  # type: ignore[func-returns-value]
    detector = Detector(service.url)
    threading.Timer(0.2, detector.close).start()
    begin = time.monotonic()
    with pytest.raises(ServerError, match="was cancelled"):
        detector.detect(b"image")
    assert time.monotonic() - begin < 1


def test_threads_may_share_a_detector(service: Service, detector: Detector) -> None:
    service.answer = number_in
    widths: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: widths.append(detector.detect(bytes(n)).width))
        for n in range(1, 17)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(widths) == list(range(1, 17))


# The real server.


def test_path_bytes_and_pixels_give_the_same_boxes(real: Detector, smear: Path) -> None:
    by_path = real.detect(smear)
    pixels = cv2.imdecode(np.frombuffer(smear.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert by_path.detections
    assert (by_path.height, by_path.width) == pixels.shape[:2]
    assert real.detect(str(smear)) == by_path
    assert real.detect(smear.read_bytes()) == by_path
    assert agree(real.detect(pixels[..., ::-1]), by_path)


def agree(result: Result, other: Result) -> bool:
    """Whether two results hold the same objects, boxes within a pixel."""
    pairs = list(zip(result.detections, other.detections, strict=True))
    return all(
        a.label == b.label
        and abs(a.score - b.score) < 0.02
        and np.allclose(corners(a), corners(b), atol=1)
        for a, b in pairs
    )


def corners(detection: Detection) -> list[float]:
    box = detection.box
    return [box.x1, box.y1, box.x2, box.y2]


def test_boxes_lie_in_the_picture_best_first(real: Detector, smear: Path) -> None:
    result = real.detect(smear, score_threshold=0)
    scores = [detection.score for detection in result.detections]
    assert scores == sorted(scores, reverse=True)
    for x1, y1, x2, y2 in map(corners, result.detections):
        assert 0 <= x1 <= x2 <= result.width
        assert 0 <= y1 <= y2 <= result.height


def test_the_real_server_obeys_the_parameters(real: Detector, smear: Path) -> None:
    assert len(real.detect(smear, score_threshold=0, max_detections=1).detections) == 1
    assert real.detect(smear, score_threshold=1.0).detections == ()


@pytest.mark.parametrize(
    "parameters", [{"score_threshold": 7}, {"iou_threshold": -1}, {"max_detections": 0}]
)
def test_the_real_server_refuses_a_parameter_out_of_range(
    real: Detector, smear: Path, parameters: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(parameters))):
        real.detect(smear, **parameters)


def test_real_photos_of_many_sizes_keep_their_order(real: Detector, tmp_path: Path) -> None:
    sizes = [(30 + 37 * number % 200, 20 + 53 * number % 300) for number in range(24)]
    photos = [
        save_photo(tmp_path / f"{number}{suffix}", *sizes[number])
        for number, suffix in enumerate([".jpg", ".png", ".bmp", ".webp", ".tif", ".jpg"] * 4)
    ]
    results = real.detect_many(photos, concurrency=8)
    assert [(result.height, result.width) for result in results] == sizes


def test_real_bad_images_leave_the_others_alone(real: Detector, smear: Path) -> None:
    truncated = smear.read_bytes()[:2000]
    images: list[Image] = [smear, b"no image", b"", truncated, smear]
    first, *bad, last = real.detect_many(images, errors="return")
    assert [type(error) for error in bad] == [InvalidImage] * 3
    assert all("image 0" not in str(error) for error in bad)
    assert first == last


def test_a_turned_photo_has_the_size_that_drawing_has(real: Detector, smear: Path) -> None:
    jpeg = turned(smear.read_bytes())
    result = real.detect(jpeg)
    assert (result.height, result.width) == drawing.read(jpeg).shape[:2]
    assert (result.height, result.width) == drawing.read(smear).shape[1::-1]


def test_trailing_bytes_after_a_jpeg_do_no_harm(real: Detector, smear: Path) -> None:
    assert real.detect(smear.read_bytes() + b"\0more\0") == real.detect(smear)


def test_a_missing_model_is_named(server: EmbeddedServer) -> None:
    with (
        Detector(server.grpc_url, model="nothing") as detector,
        pytest.raises(ServerError, match="nothing"),
    ):
        detector.detect(b"image")


def test_another_model_than_the_ensemble_is_refused(server: EmbeddedServer) -> None:
    with Detector(server.grpc_url, model="ssd") as detector, pytest.raises(ServerError):
        detector.detect(b"image")


def test_the_http_port_is_told_apart(server: EmbeddedServer) -> None:
    with Detector(server.http_url) as detector, pytest.raises(DetectorError, match="gRPC"):
        detector.detect(b"image")
