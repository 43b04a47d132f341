"""What a detector tells OpenTelemetry's SDK of images that small servers answer."""

from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from client import (
    AsyncDetector,
    Detection,
    Detector,
    InvalidImage,
    InvalidParameter,
    Security,
    ServerError,
    ServerUnavailable,
)
from tests.client.conftest import Service, answer_tensors
from tests.client.http_service import serve_http
from tests.client.telemetry.conftest import Told


def test_an_image_is_a_span_and_its_try_a_child(
    told: Told, service: Service, photo: Path, cell: Detection
) -> None:
    service.answer = lambda *_: answer_tensors([cell])
    with Detector(service.url) as detector:
        detector.detect(photo)
    image, attempt = told.spans()
    assert (image.name, image.kind, image.parent) == ("detect", SpanKind.INTERNAL, None)
    assert image.attributes == {
        "ssd.model": "ensemble",
        "ssd.image.bytes": photo.stat().st_size,
        "ssd.detections": 1,
        "ssd.tries": 1,
    }
    host, _, port = service.url.rpartition(":")
    assert (attempt.name, attempt.kind) == (
        "inference.GRPCInferenceService/ModelInfer",
        SpanKind.CLIENT,
    )
    assert attempt.parent == image.context
    assert attempt.attributes == {
        "ssd.model": "ensemble",
        "server.address": host,
        "server.port": int(port),
        "rpc.system.name": "grpc",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
    }
    assert service.headers[-1]["traceparent"] == traceparent_of(attempt)


def traceparent_of(span) -> str:
    own = span.context
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"


def test_by_http_it_is_named_as_http_requests_are(told: Told, photo: Path) -> None:
    with serve_http() as service, Detector(f"{service.url}/cells") as detector:
        detector.detect(photo)
    _, attempt = told.spans()
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    assert attempt.name == "POST /v2/models/{model}/infer"
    assert attempt.attributes == {
        "ssd.model": "ensemble",
        "server.address": host,
        "server.port": int(port),
        "http.request.method": "POST",
        "url.full": f"{service.url}/cells/v2/models/ensemble/infer",
        "http.response.status_code": 200,
    }
    assert service.headers[-1]["traceparent"] == traceparent_of(attempt)


def test_a_further_try_is_a_span_of_its_own(told: Told, service: Service, photo: Path) -> None:
    before = told.counts()
    refusals = iter([True])

    def answer(_, context: grpc.ServicerContext):
        if next(refusals, False):
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return answer_tensors()

    service.answer = answer
    with Detector(service.url) as detector:
        detector.detect(photo)
    image, first, second = told.spans()
    assert [span.attributes["rpc.response.status_code"] for span in (first, second)] == [
        "UNAVAILABLE",
        "OK",
    ]
    assert (first.status.status_code, first.attributes["error.type"]) == (
        StatusCode.ERROR,
        "UNAVAILABLE",
    )
    assert first.parent == second.parent == image.context
    assert image.status.status_code is StatusCode.UNSET
    assert image.attributes["ssd.tries"] == 2
    assert [headers["traceparent"] for headers in service.headers] == [
        traceparent_of(first),
        traceparent_of(second),
    ]
    assert grown(told, before) == {
        ("ssd.client.image.duration", ""): 1,
        ("ssd.client.retries", "ServerUnavailable"): 1,
        ("ssd.client.refusals", ""): 1,
    }


def grown(told: Told, before: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {
        key: grown
        for key, number in told.counts().items()
        if (grown := number - before.get(key, 0))
    }


def test_a_further_try_by_http_says_which_it_is(told: Told, photo: Path) -> None:
    statuses = iter([503, 404])
    with serve_http() as service, Detector(service.url) as detector:
        service.answer = lambda handler: handler.reply(next(statuses), b'{"error": "no"}')
        with pytest.raises(ServerError):
            detector.detect(photo)
    _, first, second = told.spans()
    assert [span.attributes["http.response.status_code"] for span in (first, second)] == [503, 404]
    assert [span.attributes["error.type"] for span in (first, second)] == [
        "503",
        "404",
    ]
    assert "http.request.resend_count" not in first.attributes
    assert second.attributes["http.request.resend_count"] == 1


def test_a_failure_is_counted_by_its_kind(told: Told, nowhere: str, photo: Path) -> None:
    before = told.counts()
    with Detector(nowhere, retries=0) as detector, pytest.raises(ServerUnavailable):
        detector.detect(photo)
    image, _ = told.spans()
    assert image.status.status_code is StatusCode.ERROR
    assert image.attributes["error.type"] == "ServerUnavailable"
    assert grown(told, before) == {("ssd.client.image.duration", "ServerUnavailable"): 1}


def test_a_file_that_is_not_there_is_told_without_its_name(
    told: Told, service: Service, tmp_path: Path
) -> None:
    with Detector(service.url) as detector, pytest.raises(InvalidImage):
        detector.detect(tmp_path / "secret name.jpg")
    [image] = told.spans()
    assert image.attributes == {
        "ssd.model": "ensemble",
        "error.type": "InvalidImage",
        "ssd.tries": 0,
    }
    assert "secret name" not in image.to_json()


def test_no_key_and_no_name_of_a_photo_is_told(told: Told, service: Service, photo: Path) -> None:
    service.refuse(grpc.StatusCode.INVALID_ARGUMENT, f"image 0: {photo} is no image")
    security = Security(api_key="the-secret-key")
    with Detector(service.url, security=security) as detector, pytest.raises(InvalidImage):
        detector.detect(photo)
    assert service.headers[-1]["x-api-key"] == "the-secret-key"
    said = "".join(span.to_json() for span in told.spans())
    assert "ModelInfer" in said
    assert "the-secret-key" not in said
    assert photo.name not in said


def test_images_of_many_belong_to_the_trace_of_who_wants_them(
    told: Told, service: Service, photo: Path
) -> None:
    tracer = trace.get_tracer("a program")
    with Detector(service.url) as detector, tracer.start_as_current_span("a batch") as batch:
        assert len(list(detector.detect_many([photo] * 3, concurrency=2))) == 3
    images = [span for span in told.spans() if span.name == "detect"]
    assert len(images) == 3
    assert all(span.parent == batch.get_span_context() for span in images)


@pytest.mark.anyio
async def test_tasks_at_once_have_traces_of_their_own(
    told: Told, service: Service, photo: Path
) -> None:
    async with AsyncDetector(service.url) as detector:
        found = [result async for result in detector.detect_many([photo] * 4, concurrency=4)]
    assert len(found) == 4
    spans = told.spans()
    images = {span.context.span_id: span for span in spans if span.name == "detect"}
    tries = {span.parent.span_id: span for span in spans if span.name != "detect"}
    assert len({span.context.trace_id for span in spans}) == len(images) == 4
    assert set(tries) == set(images)


def test_a_wrong_parameter_is_no_image(told: Told, service: Service, photo: Path) -> None:
    with Detector(service.url) as detector, pytest.raises(InvalidParameter):
        detector.detect(photo, score_threshold=float("nan"))
    assert told.spans() == []
