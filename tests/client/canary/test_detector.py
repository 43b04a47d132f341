"""A detector and a canary, before a server that says what a test wants."""

import logging
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from client import (
    DeadlineExceeded,
    Detector,
    InvalidImage,
    InvalidParameter,
    ServerError,
    ServerUnavailable,
    canary,
)
from client.canary import Canary
from tests.client.canary.names import ALL, CANARY, STABLE, at
from tests.client.conftest import Service, answer_tensors

GONE = "Request for unknown model: 'ensemble_canary' has no available versions"


@pytest.fixture
def detector(service: Service) -> Iterator[Detector]:
    with Detector(service.url, timeout=10) as detector:
        yield detector


def asked_models(service: Service) -> list[str]:
    return [request.model_name for request in service.requests]


def refuse_canary(service: Service, status: grpc.StatusCode, details: str) -> None:
    """Fail the canary's requests; the stable model answers."""

    def answer(request, context):
        if request.model_name == CANARY:
            context.abort(status, details)
        return answer_tensors()

    service.answer = answer


def test_without_a_key_nobody_asks_for_a_canary(service: Service, detector: Detector) -> None:
    service.canary = ALL
    assert detector.detect(b"image").model == STABLE
    assert [result.model for result in detector.detect_many([b"a", b"b"])] == [STABLE] * 2
    assert service.asked == 0


def test_a_key_takes_part(service: Service, detector: Detector) -> None:
    service.canary = ALL
    assert detector.detect(b"image", canary_key="user 42").model == CANARY
    assert asked_models(service) == [CANARY]


def test_the_detectors_key_holds_unless_a_request_has_its_own(service: Service) -> None:
    service.canary = {**ALL, "canary_share": "0.5"}
    inside, outside = sides(at(0.5))
    with Detector(service.url, canary_key=inside) as detector:
        assert detector.detect(b"image").model == CANARY
        assert detector.detect(b"image", canary_key=outside).model == STABLE
        assert detector.detect(b"image", canary_key="").model == STABLE
        assert [result.model for result in detector.detect_many([b"image"])] == [CANARY]


def sides(of: Canary) -> tuple[str, str]:
    """Return a key that the canary takes and one that it does not."""
    names = [f"user {number}" for number in range(100)]
    return next(filter(of.takes, names)), next(name for name in names if not of.takes(name))


def test_many_have_one_key_or_one_each(service: Service, detector: Detector) -> None:
    service.canary = {**ALL, "canary_share": "0.5"}
    inside, outside = sides(at(0.5))
    one = detector.detect_many([b"a", b"b", b"c"], canary_key=inside)
    assert [result.model for result in one] == [CANARY] * 3
    names = {b"a": outside, b"b": inside, b"c": ""}
    each = detector.detect_many(list(names), canary_key=lambda image: names[image])
    assert [result.model for result in each] == [STABLE, CANARY, STABLE]
    assert service.asked == 1


def test_no_canary_is_the_stable_model_and_is_asked_for_once(
    service: Service, detector: Detector
) -> None:
    results = detector.detect_many([b"image"] * 50, canary_key="user 42")
    assert {result.model for result in results} == {STABLE}
    assert service.asked == 1


@pytest.mark.parametrize("share", ["abc", "2.0"])
def test_a_malformed_canary_is_none(service: Service, detector: Detector, share: str) -> None:
    service.canary = {**ALL, "canary_share": share}
    assert detector.detect(b"image", canary_key="user 42").model == STABLE


def test_a_server_that_is_slow_to_tell_has_no_canary(
    service: Service, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "ASK_SECONDS", 0.05)
    service.canary = ALL
    service.ask_seconds = 0.2
    assert detector.detect(b"image", canary_key="user 42").model == STABLE


@pytest.mark.parametrize(
    ("status", "details"),
    [
        (grpc.StatusCode.NOT_FOUND, GONE),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'ensemble_canary' is not found"),
        (grpc.StatusCode.UNAVAILABLE, "ensemble_canary is unloaded"),
        (grpc.StatusCode.INTERNAL, "Stub process is not healthy."),
        (grpc.StatusCode.UNKNOWN, "no reason"),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'images'"),
    ],
)
def test_a_canary_that_fails_is_answered_for_and_told_in_the_log(
    service: Service,
    detector: Detector,
    caplog: pytest.LogCaptureFixture,
    status: grpc.StatusCode,
    details: str,
) -> None:
    service.canary = ALL
    refuse_canary(service, status, details)
    with caplog.at_level(logging.WARNING, "client"):
        assert detector.detect(b"image", canary_key="user 42").model == STABLE
    assert asked_models(service) == [CANARY, STABLE]
    (record,) = caplog.records
    assert record.getMessage().startswith("ensemble_canary failed, ensemble answers instead: ")
    assert details in record.getMessage()


def test_an_answer_of_other_tensors_is_a_failure_too(service: Service, detector: Detector) -> None:
    service.canary = ALL
    service.answer = lambda request, _: {} if request.model_name == CANARY else answer_tensors()
    assert detector.detect(b"image", canary_key="user 42").model == STABLE


def test_a_failing_canary_goes_on_to_be_tried(service: Service, detector: Detector) -> None:
    service.canary = ALL
    refuse_canary(service, grpc.StatusCode.INTERNAL, "Stub process is not healthy.")
    for _ in range(3):
        detector.detect(b"image", canary_key="user 42")
    assert asked_models(service) == [CANARY, STABLE] * 3


def test_a_canary_that_is_gone_is_not_tried_again(service: Service, detector: Detector) -> None:
    service.canary = ALL
    detector.detect(b"image", canary_key="user 42")
    service.canary = None
    refuse_canary(service, grpc.StatusCode.NOT_FOUND, GONE)
    for _ in range(3):
        assert detector.detect(b"image", canary_key="user 42").model == STABLE
    assert asked_models(service) == [CANARY, CANARY, STABLE, STABLE, STABLE]
    assert service.asked == 2


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("image 0: not an image", InvalidImage),
        ("score_threshold must be 0 to 1, but is 7", InvalidParameter),
    ],
)
def test_what_is_wrong_with_the_request_is_told_and_not_tried_again(
    service: Service, detector: Detector, details: str, expected: type[Exception]
) -> None:
    service.canary = ALL
    refuse_canary(service, grpc.StatusCode.INVALID_ARGUMENT, details)
    with pytest.raises(expected):
        detector.detect(b"image", canary_key="user 42")
    assert asked_models(service) == [CANARY]


def test_both_sides_share_one_timeout(service: Service) -> None:
    service.canary = ALL

    def answer(request, context):
        if request.model_name == CANARY:
            time.sleep(0.3)
            context.abort(grpc.StatusCode.INTERNAL, "failed slowly")
        time.sleep(5)
        return answer_tensors()

    service.answer = answer
    begin = time.monotonic()
    with (
        Detector(service.url, timeout=1, canary_key="user 42") as detector,
        pytest.raises(DeadlineExceeded, match="within 1 s"),
    ):
        detector.detect(b"image")
    assert 1 <= time.monotonic() - begin < 2
    assert asked_models(service) == [CANARY, STABLE]


def test_a_canary_that_is_too_slow_uses_up_the_timeout(service: Service) -> None:
    service.canary = ALL
    service.answer = lambda *_: time.sleep(1) or answer_tensors()  # type: ignore[func-returns-value]
    with (
        Detector(service.url, timeout=0.5, canary_key="user 42") as detector,
        pytest.raises(DeadlineExceeded),
    ):
        detector.detect(b"image")
    assert asked_models(service) == [CANARY]


def test_if_both_fail_the_stable_models_error_is_raised(
    service: Service, detector: Detector
) -> None:
    service.canary = ALL
    service.refuse(grpc.StatusCode.UNAVAILABLE, "Server is stopping")
    with pytest.raises(ServerUnavailable, match="Server is stopping"):
        detector.detect(b"image", canary_key="user 42")
    assert asked_models(service) == [CANARY, *[STABLE] * 4]  # the stable one is tried again


def test_closing_asks_nobody_else(service: Service) -> None:
    service.canary = ALL
    service.answer = lambda *_: time.sleep(1) or answer_tensors()  # type: ignore[func-returns-value]
    detector = Detector(service.url, canary_key="user 42")
    threading.Timer(0.2, detector.close).start()
    with pytest.raises(ServerError, match="was cancelled"):
        detector.detect(b"image")
    assert asked_models(service) == [CANARY]
